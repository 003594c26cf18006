//! Sample values from users, with which types that validate their input can be traced.

use std::collections::BTreeMap;
use std::fmt;

use serde::ser::{self, Serialize};

/// A value as its type serializes it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Sample {
    /// A skipped field, or a unit.
    Absent,
    Bool(bool),
    Int(i128),
    Float(f64),
    Char(char),
    Str(String),
    Bytes(Vec<u8>),
    None,
    Some(Box<Sample>),
    List(Vec<Sample>),
    Map(Vec<(Sample, Sample)>),
    Variant(u32, Box<Sample>),
    Named(&'static str, Box<Sample>),
}

/// All sample values.
#[derive(Debug, Clone, Default)]
pub(super) struct Samples {
    named: BTreeMap<&'static str, Sample>,
    loose: Vec<Sample>,
}

impl Samples {
    /// Adds `value` and the values in it, under the names of their types. A value without a named
    /// type is tried wherever its primitive type is read. A value that cannot be serialized is
    /// ignored: its type is then reported as untraceable.
    pub(super) fn add<T: Serialize + ?Sized>(&mut self, value: &T) {
        match value.serialize(Sampler) {
            Ok(sample) if sample.has_name() => self.keep(&sample),
            Ok(sample) => self.loose.push(sample),
            Err(_) => {}
        }
    }

    fn keep(&mut self, sample: &Sample) {
        match sample {
            Sample::Named(name, content) => {
                self.named.insert(name, (**content).clone());
                // A `Deserialize` written by hand may not pass the name.
                if !matches!(**content, Sample::List(_) | Sample::Map(_) | Sample::Variant(..)) {
                    self.loose.push((**content).clone());
                }
                self.keep(content);
            }
            Sample::Some(content) | Sample::Variant(_, content) => self.keep(content),
            Sample::List(items) => items.iter().for_each(|item| self.keep(item)),
            Sample::Map(entries) => entries.iter().for_each(|(key, value)| {
                self.keep(key);
                self.keep(value);
            }),
            _ => {}
        }
    }

    /// Returns the content of the sample of the type called `name`.
    pub(super) fn of(&self, name: &str) -> Option<&Sample> {
        self.named.get(name)
    }

    /// Returns the values without a named type.
    pub(super) fn loose(&self) -> impl Iterator<Item = &Sample> {
        self.loose.iter()
    }
}

impl Sample {
    fn has_name(&self) -> bool {
        match self {
            Self::Named(..) => true,
            Self::Some(content) => content.has_name(),
            Self::List(items) => items.iter().any(Self::has_name),
            Self::Map(entries) => {
                entries.iter().any(|(key, value)| key.has_name() || value.has_name())
            }
            _ => false,
        }
    }

    /// Returns the content of a value of a named type, or the value itself.
    pub(super) fn unnamed(&self) -> &Self {
        match self {
            Self::Named(_, content) => content,
            other => other,
        }
    }

    /// Returns the item at `index` of a list.
    pub(super) fn item(&self, index: usize) -> Option<&Self> {
        match self {
            Self::List(items) => items.get(index),
            _ => None,
        }
    }
}

/// The error of a value that cannot be serialized.
#[derive(Debug)]
pub(super) struct NoSample;

impl fmt::Display for NoSample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the value cannot be serialized")
    }
}

impl std::error::Error for NoSample {}

impl ser::Error for NoSample {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

struct Sampler;

/// The parts of a value, with its type's name and its variant.
struct Parts {
    name: Option<&'static str>,
    variant: Option<u32>,
    items: Vec<Sample>,
}

impl Parts {
    fn of(name: Option<&'static str>, variant: Option<u32>) -> Self {
        Self { name, variant, items: Vec::new() }
    }

    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NoSample> {
        self.items.push(value.serialize(Sampler)?);
        Ok(())
    }

    fn sample(self) -> Sample {
        let content = Sample::List(self.items);
        let content = match self.variant {
            Some(index) => Sample::Variant(index, Box::new(content)),
            None => content,
        };
        match self.name {
            Some(name) => Sample::Named(name, Box::new(content)),
            None => content,
        }
    }
}

struct Entries(Vec<(Sample, Sample)>);

fn variant(name: &'static str, index: u32, content: Sample) -> Sample {
    Sample::Named(name, Box::new(Sample::Variant(index, Box::new(content))))
}

macro_rules! integers {
    ($($method:ident $ty:ty),*) => { $(
        fn $method(self, value: $ty) -> Result<Sample, NoSample> {
            Ok(Sample::Int(value.into()))
        }
    )* };
}

impl ser::Serializer for Sampler {
    type Ok = Sample;
    type Error = NoSample;
    type SerializeSeq = Parts;
    type SerializeTuple = Parts;
    type SerializeTupleStruct = Parts;
    type SerializeTupleVariant = Parts;
    type SerializeMap = Entries;
    type SerializeStruct = Parts;
    type SerializeStructVariant = Parts;

    integers!(serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64);
    integers!(serialize_u8 u8, serialize_u16 u16, serialize_u32 u32, serialize_u64 u64);
    integers!(serialize_i128 i128);

    fn serialize_u128(self, value: u128) -> Result<Sample, NoSample> {
        i128::try_from(value).map(Sample::Int).map_err(|_| NoSample)
    }

    fn serialize_bool(self, value: bool) -> Result<Sample, NoSample> {
        Ok(Sample::Bool(value))
    }

    fn serialize_f32(self, value: f32) -> Result<Sample, NoSample> {
        Ok(Sample::Float(value.into()))
    }

    fn serialize_f64(self, value: f64) -> Result<Sample, NoSample> {
        Ok(Sample::Float(value))
    }

    fn serialize_char(self, value: char) -> Result<Sample, NoSample> {
        Ok(Sample::Char(value))
    }

    fn serialize_str(self, value: &str) -> Result<Sample, NoSample> {
        Ok(Sample::Str(value.to_owned()))
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<Sample, NoSample> {
        Ok(Sample::Bytes(value.to_vec()))
    }

    fn serialize_none(self) -> Result<Sample, NoSample> {
        Ok(Sample::None)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Sample, NoSample> {
        Ok(Sample::Some(Box::new(value.serialize(Self)?)))
    }

    fn serialize_unit(self) -> Result<Sample, NoSample> {
        Ok(Sample::Absent)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Sample, NoSample> {
        Ok(Sample::Absent)
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        _: &'static str,
    ) -> Result<Sample, NoSample> {
        Ok(variant(name, index, Sample::Absent))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<Sample, NoSample> {
        Ok(Sample::Named(name, Box::new(value.serialize(Self)?)))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Result<Sample, NoSample> {
        Ok(variant(name, index, value.serialize(Self)?))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Parts, NoSample> {
        Ok(Parts::of(None, None))
    }

    fn serialize_tuple(self, _: usize) -> Result<Parts, NoSample> {
        Ok(Parts::of(None, None))
    }

    fn serialize_tuple_struct(self, name: &'static str, _: usize) -> Result<Parts, NoSample> {
        Ok(Parts::of(Some(name), None))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Parts, NoSample> {
        Ok(Parts::of(Some(name), Some(index)))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Entries, NoSample> {
        Ok(Entries(Vec::new()))
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Parts, NoSample> {
        Ok(Parts::of(Some(name), None))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Parts, NoSample> {
        Ok(Parts::of(Some(name), Some(index)))
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

macro_rules! sequences {
    ($($kind:ident $method:ident),*) => { $(
        impl ser::$kind for Parts {
            type Ok = Sample;
            type Error = NoSample;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NoSample> {
                self.push(value)
            }

            fn end(self) -> Result<Sample, NoSample> {
                Ok(self.sample())
            }
        }
    )* };
}

sequences!(
    SerializeSeq serialize_element,
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field
);

macro_rules! structs {
    ($($kind:ident),*) => { $(
        impl ser::$kind for Parts {
            type Ok = Sample;
            type Error = NoSample;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                _: &'static str,
                value: &T,
            ) -> Result<(), NoSample> {
                self.push(value)
            }

            fn skip_field(&mut self, _: &'static str) -> Result<(), NoSample> {
                self.items.push(Sample::Absent);
                Ok(())
            }

            fn end(self) -> Result<Sample, NoSample> {
                Ok(self.sample())
            }
        }
    )* };
}

structs!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for Entries {
    type Ok = Sample;
    type Error = NoSample;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), NoSample> {
        self.0.push((key.serialize(Sampler)?, Sample::Absent));
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NoSample> {
        let (_, last) = self.0.last_mut().ok_or(NoSample)?;
        *last = value.serialize(Sampler)?;
        Ok(())
    }

    fn end(self) -> Result<Sample, NoSample> {
        Ok(Sample::Map(self.0))
    }
}
