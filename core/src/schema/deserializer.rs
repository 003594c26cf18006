//! A serde `Deserializer` that records the requested types and answers with made-up values.

use std::any::type_name;
use std::fmt::{self, Display};

use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use super::format::{Body, Fields, Format, Key, Variants};
use super::sample::Sample;
use super::search::Search;
use super::{OPAQUE, cure};

/// The reason for which a pass ended early.
#[derive(Debug)]
pub(super) struct Error {
    message: String,
    /// The field that was given twice.
    duplicate: Option<&'static str>,
    /// `true` if no other value can help.
    is_final: bool,
    /// `true` if the type cannot be stored in the binary format.
    is_unstorable: bool,
}

impl Error {
    fn new(message: impl Display, is_final: bool) -> Self {
        Self { message: message.to_string(), duplicate: None, is_final, is_unstorable: false }
    }

    pub(super) fn conflict() -> Self {
        Self::new("it is not read in the same way each time", true)
    }

    pub(super) fn endless() -> Self {
        Self::new("it is too large, or has no end", false)
    }

    fn unstorable(message: impl Display) -> Self {
        Self { is_unstorable: true, ..Self::new(message, true) }
    }

    pub(super) fn is_unstorable(&self) -> bool {
        self.is_unstorable
    }

    pub(super) fn is_final(&self) -> bool {
        self.is_final
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: Display>(message: T) -> Self {
        Self::new(message, false)
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self { duplicate: Some(field), ..Self::new(format!("`{field}` is given twice"), false) }
    }
}

/// The deserializer of one value.
pub(super) struct Tracing<'t, 's> {
    search: &'t mut Search<'s>,
    /// The format of the value, which the deserializer fills in.
    slot: &'t mut Format,
    /// The value in a sample, to be preferred.
    hint: Option<&'s Sample>,
    /// `true` if the value must end as soon as possible.
    hurry: bool,
}

/// Texts to try: each is valid for some common type.
const TEXTS: [&str; 22] = [
    "1",
    "a",
    "",
    "a-1",
    "A",
    "00000000-0000-4000-8000-000000000000",
    "2000-01-01T00:00:00Z",
    "2000-01-01",
    "00:00:00",
    "2000-01-01T00:00:00",
    "PT1S",
    "UTC",
    "127.0.0.1",
    "::1",
    "127.0.0.1:80",
    "a@b.cd",
    "https://a.b/",
    "1.0.0",
    "EUR",
    "en",
    "true",
    "+12025550123",
];

/// Numbers of bytes to try: each is valid for some common type.
const LENGTHS: [usize; 12] = [16, 0, 1, 2, 4, 8, 12, 20, 24, 32, 48, 64];

impl<'t, 's> Tracing<'t, 's> {
    pub(super) fn root(search: &'t mut Search<'s>, slot: &'t mut Format) -> Self {
        Self { search, slot, hint: None, hurry: false }
    }

    fn primitive(&mut self, name: &'static str) -> Result<(), Error> {
        *self.slot = Format::Primitive(name);
        self.search.step()
    }

    /// Returns the value of the hint; without a hint, a sample without a named type or a value of
    /// `built_in`.
    fn pick<T: Clone>(
        &mut self,
        reader: &'static str,
        of: impl Fn(&Sample) -> Option<T>,
        built_in: &[T],
    ) -> T {
        if let Some(value) = self.hint.and_then(|hint| of(hint.unnamed())) {
            return value;
        }
        let mut values: Vec<T> = self.search.samples.loose().filter_map(of).collect();
        values.extend(built_in.iter().cloned());
        let index = self.search.choose(reader, values.len());
        values.swap_remove(index)
    }

    /// Chooses the number of items; in a hurry it prefers none.
    fn amount(&mut self, reader: &'static str) -> usize {
        let (reader, amounts) =
            if self.hurry { ("in a hurry", [0, 1, 2]) } else { (reader, [1, 0, 2]) };
        amounts[self.search.choose(reader, amounts.len())]
    }

    /// Reads the content of a named type.
    fn inside<T>(
        self,
        visitor: &'static str,
        name: &'static str,
        read: impl FnOnce(Inside<'_, 's>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Self { search, slot, hint, hurry } = self;
        search.step()?;
        let key: Key = (visitor, name);
        *slot = Format::Named(key);
        let hint = hint.map(Sample::unnamed).or_else(|| search.samples.of(name));
        let hurry = search.enter(key)? || hurry;
        let value = read(Inside { search: &mut *search, key, variant: None, hint, hurry });
        if value.is_err() {
            search.fails_here();
        }
        search.leave();
        value.map_err(|error| Error { duplicate: None, ..error })
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $ty:ident),*) => { $(
        fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
            self.primitive(stringify!($ty))?;
            let of = |sample: &Sample| match sample {
                Sample::Int(value) => $ty::try_from(*value).ok(),
                _ => None,
            };
            visitor.$visit(self.pick(type_name::<V>(), of, &[1, 0, 2, 10, 60, 100]))
        }
    )* };
}

macro_rules! others {
    ($($method:ident $name:literal $visit:ident $of:pat => $value:expr, $built_in:expr;)*) => { $(
        fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
            self.primitive($name)?;
            let of = |sample: &Sample| match sample {
                $of => Some($value),
                _ => None,
            };
            visitor.$visit(self.pick(type_name::<V>(), of, &$built_in))
        }
    )* };
}

impl<'de> Deserializer<'de> for Tracing<'_, '_> {
    type Error = Error;

    integers!(deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16);
    integers!(deserialize_i32 visit_i32 i32, deserialize_i64 visit_i64 i64);
    integers!(deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16);
    integers!(deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64);
    integers!(deserialize_i128 visit_i128 i128, deserialize_u128 visit_u128 u128);

    others! {
        deserialize_bool "bool" visit_bool Sample::Bool(value) => *value, [false, true];
        deserialize_f32 "f32" visit_f32 Sample::Float(value) => single(*value), [1.0, 0.0, 0.5];
        deserialize_f64 "f64" visit_f64 Sample::Float(value) => *value, [1.0, 0.0, 0.5];
        deserialize_char "char" visit_char Sample::Char(value) => *value, ['a', 'A', '1', ' '];
        deserialize_str "str" visit_string Sample::Str(value) => value.clone(), TEXTS.map(str::to_owned);
        deserialize_bytes "bytes" visit_byte_buf Sample::Bytes(value) => value.clone(), LENGTHS.map(|n| vec![1; n]);
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::unstorable(cure::asks_for_its_type(type_name::<V>())))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::unstorable(cure::SKIPS_A_VALUE))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::unstorable(cure::FINDS_FIELDS_BY_NAME))
    }

    fn deserialize_unit<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        self.primitive("()")?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        self.search.step()?;
        let hint = match self.hint.map(Sample::unnamed) {
            Some(Sample::Some(content)) => Some(&**content),
            _ => None,
        };
        let is_some = hint.is_some() || self.amount(type_name::<V>()) > 0;
        let Self { search, slot, hurry, .. } = self;
        let mut content = Format::Unknown;
        let value = if is_some {
            visitor.visit_some(Tracing { search, slot: &mut content, hint, hurry })
        } else {
            visitor.visit_none()
        };
        *slot = Format::Option(Box::new(content));
        value
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        self.search.step()?;
        let amount = match self.hint.map(Sample::unnamed) {
            Some(Sample::List(items)) if !items.is_empty() => items.len(),
            _ => self.amount(type_name::<V>()),
        };
        let Self { search, slot, hint, hurry } = self;
        let mut items = Items::new(search, amount, hint, hurry);
        let value = visitor.visit_seq(&mut items);
        let mut item = Format::Unknown;
        for seen in items.formats {
            item.merge(seen).map_err(|_| Error::conflict())?;
        }
        *slot = Format::Seq(Box::new(item));
        value
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        self.search.step()?;
        let hint = match self.hint.map(Sample::unnamed) {
            Some(Sample::Map(entries)) => entries.as_slice(),
            _ => &[],
        };
        let amount = if hint.is_empty() { self.amount(type_name::<V>()) } else { hint.len() };
        let Self { search, slot, hurry, .. } = self;
        let mut entries = Entries {
            search,
            key: Format::Unknown,
            value: Format::Unknown,
            at: 0,
            amount,
            hint,
            hurry,
        };
        let value = visitor.visit_map(&mut entries);
        *slot = Format::Map(Box::new(entries.key), Box::new(entries.value));
        value
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        let Self { search, slot, hint, hurry } = self;
        search.step()?;
        let mut items = Items::new(search, len, hint, hurry);
        let value = visitor.visit_seq(&mut items);
        *slot = Format::Tuple(items.all());
        value
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.inside(type_name::<V>(), name, |inside| {
            inside.newtype(|content| visitor.visit_newtype_struct(content))
        })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.inside(type_name::<V>(), name, |inside| inside.tuple(len, visitor))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if let (OPAQUE, [shown]) = (name, fields) {
            *self.slot = Format::Opaque(shown);
            return visitor.visit_unit();
        }
        self.inside(type_name::<V>(), name, |inside| inside.fields(fields, visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.inside(type_name::<V>(), name, |inside| inside.variants(variants, visitor))
    }

    fn is_human_readable(&self) -> bool {
        self.search.is_json
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the sample was an f32, or it is only tried")]
fn single(value: f64) -> f32 {
    value as f32
}

/// The deserializer of the content of a named type or of a variant.
struct Inside<'t, 's> {
    search: &'t mut Search<'s>,
    key: Key,
    variant: Option<usize>,
    hint: Option<&'s Sample>,
    hurry: bool,
}

impl<'s> Inside<'_, 's> {
    fn newtype<T>(
        self,
        read: impl FnOnce(Tracing<'_, 's>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Self { search, key, variant, hint, hurry } = self;
        let mut content = Format::Unknown;
        search.at_slot(0);
        let value = read(Tracing { search: &mut *search, slot: &mut content, hint, hurry });
        search.record(key, variant, Body::Newtype(content))?;
        value
    }

    fn tuple<'de, V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        let Self { search, key, variant, hint, hurry } = self;
        let mut items = Items::new(search, len, hint, hurry).in_slots();
        let value = visitor.visit_seq(&mut items);
        let formats = items.all();
        search.record(key, variant, Body::Tuple(formats))?;
        value
    }

    fn fields<'de, V: Visitor<'de>>(
        self,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let known = self.search.fields(self.key, self.variant);
        let trial = known.filter(|known| known.hides_aliases()).map(|known| known.in_trial_order());
        if let Some(trial) = trial {
            return self.names(trial, visitor);
        }
        let Self { search, key, variant, hint, hurry } = self;
        search.at_names(names);
        let mut items = Items::new(search, names.len(), hint, hurry).in_slots();
        let value = visitor.visit_seq(&mut items);
        let mut fields = Fields::new(names);
        fields.arity = value.is_ok().then_some(items.formats.len());
        fields.formats = items.formats;
        search.record(key, variant, Body::Struct(fields))?;
        value
    }

    /// Passes the fields by name, to find out which names are aliases.
    fn names<'de, V: Visitor<'de>>(
        self,
        trial: Vec<&'static str>,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let Self { search, key, variant, hurry, .. } = self;
        let mut by_name = ByName { search, trial, at: 0, hurry };
        let value = visitor.visit_map(&mut by_name);
        let name = by_name.at.checked_sub(1).map(|last| by_name.trial[last]);
        let field = value.as_ref().err().and_then(|error| error.duplicate);
        match (name, field) {
            (Some(name), Some(field)) => {
                search.name_fields(key, variant, |fields| fields.is_alias(name, field));
            }
            _ if value.is_ok() => search.name_fields(key, variant, |fields| fields.settled = true),
            _ => {}
        }
        value
    }

    fn variants<'de, V: Visitor<'de>>(
        mut self,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.search.record(self.key, None, Body::Enum(Variants::new(names)))?;
        let (preferred, content) = match self.hint {
            Some(Sample::Variant(index, content)) => {
                (usize::try_from(*index).ok(), Some(&**content))
            }
            _ => (None, None),
        };
        let index = self.search.choose_variant(self.key, self.hurry, preferred)?;
        self.variant = Some(index);
        self.hint = content.filter(|_| preferred == Some(index));
        let before = self.search.steps();
        let Self { search, key, .. } = self;
        let value = visitor
            .visit_enum(OneVariant { index, inside: Inside { search: &mut *search, ..self } });
        if value.is_ok() {
            search.costs(key, index, search.steps() - before);
        }
        value
    }
}

/// A variant of an enum, identified by its index as in the binary format.
struct OneVariant<'t, 's> {
    index: usize,
    inside: Inside<'t, 's>,
}

impl<'de, 't, 's> EnumAccess<'de> for OneVariant<'t, 's> {
    type Error = Error;
    type Variant = Inside<'t, 's>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Inside<'t, 's>), Error> {
        let number = u32::try_from(self.index).unwrap_or(u32::MAX);
        match seed.deserialize(number.into_deserializer()) {
            Ok(value) => Ok((value, self.inside)),
            Err(error) => {
                if self.index > 0 {
                    self.inside.search.lacks_variant(self.inside.key, self.index);
                }
                Err(error)
            }
        }
    }
}

impl<'de> VariantAccess<'de> for Inside<'_, '_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        self.search.record(self.key, self.variant, Body::Unit)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        self.newtype(|content| seed.deserialize(content))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        self.tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.fields(fields, visitor)
    }
}

/// A sequence of `amount` items.
struct Items<'t, 's> {
    search: &'t mut Search<'s>,
    formats: Vec<Format>,
    amount: usize,
    hint: Option<&'s Sample>,
    hurry: bool,
    /// `true` if each item is a slot of its own, as in a tuple.
    in_slots: bool,
}

impl<'t, 's> Items<'t, 's> {
    fn new(
        search: &'t mut Search<'s>,
        amount: usize,
        hint: Option<&'s Sample>,
        hurry: bool,
    ) -> Self {
        let hint = hint.map(Sample::unnamed);
        Self { search, formats: Vec::new(), amount, hint, hurry, in_slots: false }
    }

    fn in_slots(mut self) -> Self {
        self.in_slots = true;
        self
    }

    /// Returns the formats of all items; those of unread items are unknown.
    fn all(mut self) -> Vec<Format> {
        self.formats.resize(self.amount, Format::Unknown);
        self.formats
    }
}

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        let at = self.formats.len();
        if at == self.amount {
            return Ok(None);
        }
        if self.in_slots {
            self.search.at_slot(at);
        }
        let hint = self.hint.and_then(|hint| hint.item(at));
        let mut format = Format::Unknown;
        let tracing =
            Tracing { search: &mut *self.search, slot: &mut format, hint, hurry: self.hurry };
        let value = seed.deserialize(tracing);
        self.formats.push(format);
        value.map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.amount - self.formats.len())
    }
}

/// The entries of a map.
struct Entries<'t, 's> {
    search: &'t mut Search<'s>,
    key: Format,
    value: Format,
    at: usize,
    amount: usize,
    hint: &'s [(Sample, Sample)],
    hurry: bool,
}

impl<'de> MapAccess<'de> for Entries<'_, '_> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        if self.at == self.amount {
            return Ok(None);
        }
        self.at += 1;
        let hint = self.hint.get(self.at - 1).map(|(key, _)| key);
        let (search, slot) = (&mut *self.search, &mut self.key);
        seed.deserialize(Tracing { search, slot, hint, hurry: self.hurry }).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let hint = self.hint.get(self.at.saturating_sub(1)).map(|(_, value)| value);
        let (search, slot) = (&mut *self.search, &mut self.value);
        seed.deserialize(Tracing { search, slot, hint, hurry: self.hurry })
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.amount - self.at)
    }
}

/// The fields of a struct, passed by name.
struct ByName<'t, 's> {
    search: &'t mut Search<'s>,
    trial: Vec<&'static str>,
    at: usize,
    hurry: bool,
}

impl<'de> MapAccess<'de> for ByName<'_, '_> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        let Some(name) = self.trial.get(self.at) else { return Ok(None) };
        self.search.at_slot(self.at);
        self.at += 1;
        seed.deserialize((*name).into_deserializer()).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let mut unused = Format::Unknown;
        let search = &mut *self.search;
        seed.deserialize(Tracing { search, slot: &mut unused, hint: None, hurry: self.hurry })
    }
}
