//! Effects as the code that makes them, so that a failure's output can be pasted into the test.

use std::fmt::{Debug, Write as _};
use std::time::Duration;

use composable_rust_core::bus::BusMessage;
use composable_rust_core::effect::{
    CallGateway, Delay, DispatchCommand, EffectId, IdempotencyKey, ReplyMode,
};
use composable_rust_core::store::Due;
use composable_rust_core::{Effect, Effects};

/// The longest line, in characters.
const WIDTH: usize = 88;

/// `true` if two effects are equal. Futures cannot be compared and always are.
pub(crate) fn same<A: PartialEq>(a: &Effect<A>, b: &Effect<A>) -> bool {
    match (a, b) {
        (Effect::Future(_), Effect::Future(_)) => true,
        (Effect::Cancellable(a, x), Effect::Cancellable(b, y)) => a == b && same(x, y),
        (Effect::Parallel(a), Effect::Parallel(b))
        | (Effect::Sequential(a), Effect::Sequential(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (a, b) => a == b,
    }
}

/// `true` if two lists of effects are equal.
pub(crate) fn same_effects<A: PartialEq>(a: &Effects<A>, b: &Effects<A>) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
}

/// The effects on several lines, for a diff.
pub(crate) fn effects_block<A: Debug>(effects: &Effects<A>) -> String {
    match effects.len() {
        0 => "effects![]".to_owned(),
        _ => format!("effects![\n{}]", items(effects.iter())),
    }
}

/// The effects on one line if they fit, as in `store.effects(…)`.
pub(crate) fn effects_code<A: Debug>(effects: &Effects<A>) -> String {
    let items: Vec<_> = effects.iter().map(|effect| render(effect, false)).collect();
    let line = format!("effects![{}]", items.join(", "));
    if line.len() <= WIDTH { line } else { effects_block(effects) }
}

/// One effect.
fn effect_code<A: Debug>(effect: &Effect<A>) -> String {
    let line = render(effect, false);
    if line.len() <= WIDTH { line } else { render(effect, true) }
}

fn items<'a, A: Debug + 'a>(effects: impl IntoIterator<Item = &'a Effect<A>>) -> String {
    effects
        .into_iter()
        .fold(String::new(), |mut text, effect| {
            let _ = writeln!(text, "{},", effect_code(effect));
            text
        })
        .lines()
        .fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "    {line}");
            text
        })
}

fn render<A: Debug>(effect: &Effect<A>, tall: bool) -> String {
    match effect {
        Effect::PublishEvent(message) => format!("publish({})", bus_message(message, tall)),
        Effect::DispatchCommand(dispatch) => dispatch_code(dispatch, tall),
        Effect::CallGateway(call) => call_code(call, tall),
        Effect::Reply(answer) => format!("reply_to(…, {})", code(&answer.event, tall)),
        Effect::Delay(delay) => delay_code(delay, tall),
        Effect::Cancel(id) => format!("cancel({})", id_code(id)),
        Effect::Cancellable(id, effect) => {
            format!("{}.with_id({})", render(effect, tall), id_code(id))
        }
        Effect::Database(database) => {
            format!("database({}, …)", code(&database.operation, tall))
        }
        Effect::Parallel(effects) => group("parallel", effects, tall),
        Effect::Sequential(effects) => group("sequential", effects, tall),
        Effect::Future(_) => "any_future()".to_owned(),
        Effect::Record(event) => format!("recording({})", code(event, tall)),
        Effect::Reject(rejection) => format!("rejecting({})", code(rejection, tall)),
        effect => code(effect, tall),
    }
}

fn group<A: Debug>(name: &str, effects: &[Effect<A>], tall: bool) -> String {
    if tall && !effects.is_empty() {
        return format!("{name}(effects![\n{}])", items(effects));
    }
    let items: Vec<_> = effects.iter().map(|effect| render(effect, false)).collect();
    format!("{name}(effects![{}])", items.join(", "))
}

fn delay_code<A: Debug>(delay: &Delay<A>, tall: bool) -> String {
    let action = code(&delay.action, tall);
    let delay_itself = match delay.due {
        Due::After(duration) => format!("after({}, {action})", duration_code(duration)),
        Due::At(moment) => format!("at(\"{moment}\".parse().unwrap(), {action})"),
    };
    let named = match &delay.id {
        Some(id) => format!("{delay_itself}.with_id({})", id_code(id)),
        None => delay_itself,
    };
    if delay.detached { format!("{named}.detached()") } else { named }
}

/// A duration as code.
pub(crate) fn duration_code(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    for (unit, size) in [("secs", 1_000_000_000), ("millis", 1_000_000), ("micros", 1_000)] {
        if nanos % size == 0 {
            return format!("Duration::from_{unit}({})", nanos / size);
        }
    }
    format!("Duration::from_nanos({nanos})")
}

fn dispatch_code(dispatch: &DispatchCommand, tall: bool) -> String {
    let verb = if dispatch.replies == ReplyMode::Unwanted { "tell" } else { "dispatch" };
    let (target, id) = (type_name(dispatch.target), dispatch.recipient.id());
    let command = code(&dispatch.command, tall);
    format!("{verb}(&{target}::id({id:?}), {command}){}", tag(&dispatch.replies))
}

fn call_code(call: &CallGateway, tall: bool) -> String {
    let gateway = type_name(call.gateway);
    let key = match &call.idempotency_key {
        Some(IdempotencyKey::Scoped(key)) => format!(".idempotency_key({key:?})"),
        Some(key) => format!(".exact_idempotency_key({:?})", key.as_str()),
        None => String::new(),
    };
    format!("call::<{gateway}>({}){key}{}", code(&call.request, tall), tag(&call.replies))
}

/// The tag as JSON, which is close to the test's own code for plain variants and numbers.
fn tag(replies: &ReplyMode) -> String {
    match replies {
        ReplyMode::Unwanted => String::new(),
        ReplyMode::Tagged(tag) => tag_code(&tag.value),
        ReplyMode::Detached(tag) => format!("{}.detached()", tag_code(&tag.value)),
    }
}

fn tag_code(tag: &str) -> String {
    if tag == "null" {
        return String::new();
    }
    format!(".tag({})", tag.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(tag))
}

fn id_code(id: &EffectId) -> String {
    format!("{:?}", id.as_str())
}

/// The likely type of a target or gateway: `StockItem` for `stock_item`.
fn type_name(name: &str) -> String {
    name.split('_').fold(String::new(), |mut text, part| {
        let mut letters = part.chars();
        text.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        text.push_str(letters.as_str());
        text
    })
}

fn bus_message(message: &BusMessage, tall: bool) -> String {
    let payload = message.payload.escape_ascii();
    let (open, between, close) =
        if tall { (" {\n    ", ",\n    ", ",\n}") } else { (" { ", ", ", " }") };
    format!(
        "BusMessage{open}topic: {:?}{between}key: {:?}{between}headers: {:?}{between}payload: \
         b\"{payload}\"{close}",
        message.topic, message.key, message.headers
    )
}

/// The name of a type, without its path.
pub(crate) fn type_code<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    name.rsplit("::").next().unwrap_or(name)
}

/// A value, on several lines if `tall`.
pub(crate) fn code(value: &impl Debug, tall: bool) -> String {
    if tall { format!("{value:#?}") } else { format!("{value:?}") }
}

#[cfg(test)]
mod tests {
    use composable_rust_core::StreamId;
    use composable_rust_core::message::{AnyMessage, Tag};
    use composable_rust_core::prelude::*;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Message)]
    enum Request {
        Charge { cents: u64 },
    }

    fn charge() -> AnyMessage {
        AnyMessage::new(Request::Charge { cents: 5 })
    }

    fn dispatched(replies: ReplyMode) -> Effect<u8> {
        let recipient = StreamId::new("card_holder", "a-1").unwrap();
        let target = "card_holder";
        Effect::DispatchCommand(Box::new(DispatchCommand {
            target,
            recipient,
            command: charge(),
            replies,
        }))
    }

    #[test]
    fn effects_print_as_the_code_that_makes_them() {
        let tag = |value: &str| Tag {
            variant: "visit.paid".into(),
            version: 1,
            fields: 1,
            value: value.into(),
        };
        let tagged = || ReplyMode::Tagged(tag("\"First\""));
        let call = |idempotency_key| {
            let (gateway, request, replies) = ("stripe", charge(), tagged());
            let call = CallGateway { gateway, request, replies, idempotency_key };
            Effect::CallGateway(Box::new(call))
        };
        let effects: Effects<u8> = effects![
            dispatched(ReplyMode::Unwanted),
            dispatched(ReplyMode::Tagged(tag("null"))),
            dispatched(tagged()),
            call(None),
            call(Some(IdempotencyKey::Scoped("charge".into()))),
            call(Some(IdempotencyKey::Exact("a-1".into()))),
            at(Timestamp::from_micros(1_500_000), 7).with_id("late"),
            parallel(effects![cancel("a"), future(async { None })]).with_id("both"),
            Effect::Record(charge()),
            Effect::Reject(charge()),
        ];
        let expected = r#"effects![
    tell(&CardHolder::id("a-1"), Charge { cents: 5 }),
    dispatch(&CardHolder::id("a-1"), Charge { cents: 5 }),
    dispatch(&CardHolder::id("a-1"), Charge { cents: 5 }).tag(First),
    call::<Stripe>(Charge { cents: 5 }).tag(First),
    call::<Stripe>(Charge { cents: 5 }).idempotency_key("charge").tag(First),
    call::<Stripe>(Charge { cents: 5 }).exact_idempotency_key("a-1").tag(First),
    at("1970-01-01T00:00:01.5Z".parse().unwrap(), 7).with_id("late"),
    parallel(effects![cancel("a"), any_future()]).with_id("both"),
    recording(Charge { cents: 5 }),
    rejecting(Charge { cents: 5 }),
]"#;
        assert_eq!(effects_block(&effects), expected);
    }

    #[test]
    fn durations_print_in_the_largest_unit_that_holds_them() {
        let code = [
            duration_code(Duration::from_secs(90)),
            duration_code(Duration::from_millis(1_500)),
            duration_code(Duration::from_micros(7)),
            duration_code(Duration::from_nanos(1)),
        ];
        let units = ["secs(90)", "millis(1500)", "micros(7)", "nanos(1)"];
        assert_eq!(code, units.map(|unit| format!("Duration::from_{unit}")));
    }
}
