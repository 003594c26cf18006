//! The lock file of stored message shapes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use self::differences::Differences;
use composable_rust_core::schema::{SchemaTracer, Shape};
use composable_rust_core::{Gateway, Message, Target};
use serde::Serialize;

mod differences;

const VARIABLE: &str = "UPDATE_EVENTS_LOCK";

const HEADER: &str = "\
# What is stored, by name and version. A test keeps this file; it is not edited.
# Take additions over with: UPDATE_EVENTS_LOCK=1 cargo test
";

/// Checks that stored messages can still be decoded.
///
/// A committed file holds the shapes of all events, commands and rejections, nested types included.
/// [`check`](EventsLock::check) fails if a shape changes without a new version, even where old
/// bytes would still decode to wrong values: if a nested enum is reordered, or two fields of one
/// type are swapped. It also fails if a name disappears, and if a message is missing from the file.
/// Old versions are pinned by the shapes that their upcasters take.
///
/// # Example: the whole test
///
/// ```no_run
/// # use std::convert::Infallible;
/// # use composable_rust_core::Target;
/// # struct Order;
/// # impl Target for Order {
/// #     const NAME: &'static str = "order";
/// #     type Command = Infallible;
/// #     type Event = Infallible;
/// #     type Rejection = Infallible;
/// # }
/// use composable_rust_testing::EventsLock;
///
/// // With #[test]:
/// fn stored_samples_still_decode() {
///     EventsLock::new().aggregate::<Order>().check("events.lock");
/// }
/// # stored_samples_still_decode();
/// ```
#[derive(Debug, Default)]
#[must_use = "nothing is checked before `check`"]
pub struct EventsLock {
    owners: Vec<Owner>,
    samples: Vec<Sample>,
}

type Trace = fn(&mut SchemaTracer);

/// The owner of a message, and its role.
#[derive(Debug)]
struct Owner {
    name: &'static str,
    role: &'static str,
    trace: Trace,
}

struct Sample(Box<dyn Fn(&mut SchemaTracer)>);

impl std::fmt::Debug for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sample")
    }
}

impl EventsLock {
    /// A lock without messages.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the events, commands and rejections of an aggregate, or of another service's contract.
    pub fn aggregate<T: Target>(self) -> Self {
        self.add::<T::Event>(T::NAME, "event")
            .add::<T::Command>(T::NAME, "command")
            .add::<T::Rejection>(T::NAME, "rejection")
    }

    /// Adds the requests, responses and failures of a gateway.
    pub fn gateway<G: Gateway>(self) -> Self {
        self.add::<G::Request>(G::NAME, "request")
            .add::<G::Response>(G::NAME, "response")
            .add::<G::Failure>(G::NAME, "failure")
    }

    /// Adds a valid value of a type that validates while it decodes, where the shape cannot be
    /// traced without one.
    pub fn sample<S: Serialize + 'static>(mut self, value: S) -> Self {
        self.samples.push(Sample(Box::new(move |tracer| {
            tracer.sample(&value);
        })));
        self
    }

    fn add<M: Message>(mut self, name: &'static str, role: &'static str) -> Self {
        let trace: Trace = |tracer| {
            tracer.message::<M>();
        };
        self.owners.push(Owner { name, role, trace });
        self
    }

    /// Compares the shapes with the file at `path`, relative to the package; writes the file if it
    /// is missing.
    ///
    /// With `UPDATE_EVENTS_LOCK=1` in the environment, adds new shapes to the file. Changes and
    /// removes entries only with `UPDATE_EVENTS_LOCK=force`, which is for messages that were never
    /// stored.
    ///
    /// # Panics
    ///
    /// Panics if the shapes differ from the file, naming the difference and the remedy; if a shape
    /// cannot be traced; or if the file cannot be read or written.
    #[track_caller]
    pub fn check(self, path: impl AsRef<Path>) {
        let folder = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
        let update = Update::of(std::env::var(VARIABLE).ok().as_deref());
        if let Err(problem) = self.compare(&folder.join(path), update) {
            panic!("{problem}");
        }
    }

    fn compare(&self, path: &Path, update: Update) -> Result<(), String> {
        let traced = self.trace()?;
        let old = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                println!("{} did not exist and is written: commit it", path.display());
                return write(path, &traced);
            }
            Err(error) => return Err(format!("{} cannot be read: {error}", path.display())),
        };
        let differences = Differences::between(&parse(&old), &traced);
        let breaks = differences.breaks();
        match update {
            Update::Force => write(path, &traced),
            Update::Additions if !breaks => write(path, &traced),
            Update::No if !breaks && differences.added.is_empty() => Ok(()),
            _ => Err(differences.explain(path, &old, &print(&traced))),
        }
    }

    fn trace(&self) -> Result<BTreeMap<String, Shape>, String> {
        let mut all = BTreeMap::new();
        for Owner { name: owner, role, trace } in &self.owners {
            let mut tracer = SchemaTracer::new();
            for Sample(give) in &self.samples {
                give(&mut tracer);
            }
            trace(&mut tracer);
            let shapes = tracer.shapes().map_err(|error| {
                format!("{error}. A sample is given with `EventsLock::sample`.")
            })?;
            for ((name, version), shape) in shapes {
                all.insert(format!("{owner} {role} {name} {version}"), shape);
            }
        }
        Ok(all)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Update {
    No,
    Additions,
    Force,
}

impl Update {
    fn of(variable: Option<&str>) -> Self {
        match variable {
            None | Some("" | "0") => Self::No,
            Some("force") => Self::Force,
            Some(_) => Self::Additions,
        }
    }
}

fn print(traced: &BTreeMap<String, Shape>) -> String {
    let mut text = HEADER.to_owned();
    for (name, shape) in traced {
        let _ = write!(text, "\n{name}\n");
        for line in shape.to_string().lines() {
            let _ = writeln!(text, "    {line}");
        }
    }
    text
}

fn parse(text: &str) -> BTreeMap<&str, String> {
    let mut entries = BTreeMap::<&str, String>::new();
    let mut name = None;
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let (Some(shape), Some(name)) = (line.strip_prefix("    "), name) {
            let entry = entries.entry(name).or_default();
            if !entry.is_empty() {
                entry.push('\n');
            }
            entry.push_str(shape);
        } else {
            name = Some(line);
            entries.insert(line, String::new());
        }
    }
    entries
}

fn write(path: &Path, traced: &BTreeMap<String, Shape>) -> Result<(), String> {
    fs::write(path, print(traced))
        .map_err(|error| format!("{} cannot be written: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use composable_rust_core::prelude::*;
    use serde::{Deserialize, Serialize};

    use super::*;

    /// A temporary file, removed on drop.
    struct Lock(PathBuf);

    impl Lock {
        fn new() -> Self {
            static NUMBER: AtomicU32 = AtomicU32::new(0);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("events-{}-{number}.lock", std::process::id());
            Self(std::env::temp_dir().join(name))
        }

        fn compare<T: Target>(&self, update: Update) -> Result<(), String> {
            EventsLock::new()
                .aggregate::<T>()
                .compare(&self.0, update)
                .map_err(|problem| problem.replace(&self.0.display().to_string(), "events.lock"))
        }

        /// The problem when `New` replaces `Old`.
        fn change<Old: Target, New: Target>() -> (Self, String) {
            let lock = Self::new();
            lock.compare::<Old>(Update::No).unwrap();
            lock.compare::<Old>(Update::No).unwrap();
            let problem = lock.compare::<New>(Update::No).unwrap_err();
            (lock, problem)
        }
    }

    impl Drop for Lock {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    #[derive(Debug, Clone, PartialEq, Message)]
    enum OrderCommand {
        Ship,
    }

    #[derive(Debug, Clone, PartialEq, Message)]
    enum OrderError {
        NotAllowed,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Item {
        sku: String,
        color: Color,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Color {
        Red,
        Green,
    }

    macro_rules! order {
        ($name:ident, $event:ident { $($variant:tt)* }) => {
            enum $name {}

            #[derive(Debug, Clone, PartialEq, Message)]
            #[message(prefix = "order")]
            enum $event { $($variant)* }

            impl Target for $name {
                const NAME: &'static str = "order";
                type Command = OrderCommand;
                type Event = $event;
                type Rejection = OrderError;
            }
        };
    }

    order!(Order, OrderEvent {
        Placed { items: Vec<Item>, net: u64, gross: u64 },
        Shipped,
    });

    #[test]
    fn the_file_is_readable() {
        let lock = Lock::new();
        lock.compare::<Order>(Update::No).unwrap();
        insta::assert_snapshot!(fs::read_to_string(&lock.0).unwrap());
    }

    order!(Swapped, SwappedEvent {
        Placed { items: Vec<Item>, gross: u64, net: u64 },
        Shipped,
    });

    #[test]
    fn swapping_two_fields_is_a_change() {
        let (lock, problem) = Lock::change::<Order, Swapped>();
        insta::assert_snapshot!(problem);
        assert!(lock.compare::<Swapped>(Update::Additions).is_err());
        lock.compare::<Order>(Update::No).unwrap();
        lock.compare::<Swapped>(Update::Force).unwrap();
        lock.compare::<Swapped>(Update::No).unwrap();
    }

    mod reordered {
        use serde::{Deserialize, Serialize};

        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(super) struct Item {
            sku: String,
            color: Color,
        }

        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        enum Color {
            Green,
            Red,
        }
    }

    order!(Reordered, ReorderedEvent {
        Placed { items: Vec<reordered::Item>, net: u64, gross: u64 },
        Shipped,
    });

    #[test]
    fn a_nested_enum_in_another_order_is_a_change() {
        let (_, problem) = Lock::change::<Order, Reordered>();
        insta::assert_snapshot!(problem);
    }

    order!(Renamed, RenamedEvent {
        Placed { items: Vec<Item>, net: u64, gross: u64 },
        Sent,
    });

    #[test]
    fn a_name_must_not_disappear() {
        let (lock, problem) = Lock::change::<Order, Renamed>();
        insta::assert_snapshot!(problem);
        assert!(lock.compare::<Renamed>(Update::Additions).is_err());
    }

    mod other_names {
        use serde::{Deserialize, Serialize};

        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(super) struct Item {
            #[serde(rename = "sku")]
            article: String,
            tint: Tint,
        }

        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        enum Tint {
            Crimson,
            Green,
        }
    }

    order!(OtherNames, OtherNamesEvent {
        Placed { items: Vec<other_names::Item>, net: u64, total: u64 },
        #[message(name = "order.shipped")]
        Sent,
    });

    #[test]
    fn names_that_alone_differ_are_to_be_kept() {
        let (lock, problem) = Lock::change::<Order, OtherNames>();
        insta::assert_snapshot!(problem);
        assert!(lock.compare::<OtherNames>(Update::Additions).is_err());
    }

    order!(TwoClosed, TwoClosedEvent { Placed { items: Vec<Item> }, Shipped, Lost });
    order!(TwoRenamed, TwoRenamedEvent { Placed { items: Vec<Item> }, Sent, Missing });

    #[test]
    fn of_two_names_of_one_shape_none_is_said_to_be_the_other() {
        let (_, problem) = Lock::change::<TwoClosed, TwoRenamed>();
        assert!(!problem.contains("formerly"), "{problem}");
    }

    order!(More, MoreEvent {
        Placed { items: Vec<Item>, express: bool, gross: u64 },
        Shipped { by: String },
    });

    #[test]
    fn fields_that_were_added_or_removed_say_since() {
        let (_, problem) = Lock::change::<Order, More>();
        insta::assert_snapshot!(problem);
    }

    order!(Since, SinceEvent {
        #[message(version = 2, removed(net: u64, since = 2, before = gross))]
        Placed { items: Vec<Item>, #[message(since = 2, default = true)] express: bool, gross: u64 },
        #[message(version = 2)]
        Shipped { #[message(since = 2)] by: String },
    });

    #[test]
    fn derived_versions_are_the_locked_ones() {
        let (lock, problem) = Lock::change::<Order, Since>();
        assert!(!problem.contains("without a new version"), "{problem}");
        lock.compare::<Since>(Update::Additions).unwrap();
        lock.compare::<Since>(Update::No).unwrap();
        let problem = lock.compare::<Order>(Update::No).unwrap_err();
        assert!(problem.contains("No longer there:\n    order event order.placed 2"), "{problem}");
    }

    order!(Grown, GrownEvent {
        #[message(version = 2, from(1 = PlacedV1))]
        Placed { items: Vec<Item>, net: u64, gross: u64, express: bool },
        #[message(name = "order.shipped")]
        Sent,
        Returned,
    });

    #[derive(Deserialize)]
    struct PlacedV1 {
        items: Vec<ItemV1>,
        net: u64,
        gross: u64,
    }

    /// The same event under another name.
    #[derive(Deserialize)]
    struct ItemV1 {
        sku: String,
        color: Color,
    }

    impl From<PlacedV1> for GrownEvent {
        fn from(old: PlacedV1) -> Self {
            let items =
                old.items.into_iter().map(|ItemV1 { sku, color }| Item { sku, color }).collect();
            Self::Placed { items, net: old.net, gross: old.gross, express: false }
        }
    }

    #[test]
    fn additions_are_recorded() {
        let (lock, problem) = Lock::change::<Order, Grown>();
        insta::assert_snapshot!(problem);
        lock.compare::<Grown>(Update::Additions).unwrap();
        lock.compare::<Grown>(Update::No).unwrap();
    }

    order!(Forgotten, ForgottenEvent {
        #[message(version = 2)]
        Placed { items: Vec<Item>, net: u64, gross: u64 },
        Shipped,
    });

    #[test]
    fn an_upcaster_must_not_be_forgotten() {
        let (_, problem) = Lock::change::<Order, Forgotten>();
        assert!(
            problem.contains("No longer there:\n    order event order.placed 1\n"),
            "{problem}"
        );
    }

    order!(Refusing, RefusingEvent { Placed(Refused) });

    #[derive(Debug, Clone, PartialEq, Serialize)]
    struct Refused(String);

    impl<'de> Deserialize<'de> for Refused {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let text = String::deserialize(deserializer)?;
            if text == "secret" { Ok(Self(text)) } else { Err(serde::de::Error::custom("refused")) }
        }
    }

    order!(Pair, PairEvent { Placed { first: Refused, second: u8 } });

    #[test]
    fn a_type_that_validates_its_input_needs_a_sample() {
        let lock = Lock::new();
        let problem = lock.compare::<Pair>(Update::No).unwrap_err();
        assert!(problem.contains("EventsLock::sample"), "{problem}");
        let given = EventsLock::new().aggregate::<Pair>().sample(Refused("secret".into()));
        given.compare(&lock.0, Update::No).unwrap();
        // No field follows, so the shape is known although no value was accepted.
        Lock::new().compare::<Refusing>(Update::No).unwrap();
    }
}
