//! Decoding within bounds on the nesting of values and on the number of their elements. bincode has
//! neither, so a few bytes could overflow the stack, which no `catch_unwind` catches, or a length
//! could keep a loop over elements without bytes busy for years.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};

/// The largest number of nested structs, enums, tuples, sequences and maps: that of `serde_json`.
const LEVELS: u32 = 127;
/// The largest number of nested values, including options and newtypes, which JSON does not nest.
const STEPS: u32 = 2 * LEVELS;
/// The largest number of elements of sequences and maps in excess of the bytes.
const EMPTY_ELEMENTS: usize = 1 << 16;

/// The rest of the bounds.
pub(crate) struct Bounds {
    levels: Cell<u32>,
    steps: Cell<u32>,
    elements: Cell<usize>,
}

impl Bounds {
    /// Returns the bounds of a value of `bytes` bytes.
    pub(crate) fn of(bytes: usize) -> Self {
        Self {
            levels: Cell::new(LEVELS),
            steps: Cell::new(STEPS),
            elements: Cell::new(bytes.saturating_add(EMPTY_ELEMENTS)),
        }
    }

    /// Decodes a nested value: `levels` levels and one step deeper.
    fn nested<T, E: Error>(
        &self,
        levels: u32,
        decode: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let (level, step) = (self.levels.get(), self.steps.get());
        let inner = level.checked_sub(levels).zip(step.checked_sub(1));
        let Some((inner_level, inner_step)) = inner else {
            return Err(E::custom("it nests too deeply: at most 127 levels are decoded"));
        };
        self.levels.set(inner_level);
        self.steps.set(inner_step);
        let decoded = decode();
        self.levels.set(level);
        self.steps.set(step);
        decoded
    }

    fn element<E: Error>(&self) -> Result<(), E> {
        let left = self.elements.get().checked_sub(1);
        self.elements.set(left.ok_or_else(|| E::custom("it has more elements than bytes"))?);
        Ok(())
    }
}

/// A serde seed, deserializer, visitor or access that decodes within bounds.
pub(crate) struct Bounded<'b, T> {
    inner: T,
    bounds: &'b Bounds,
    /// `true` if elements are counted. Those of a tuple are not: its type limits them.
    counts: bool,
}

impl<'b, T> Bounded<'b, T> {
    pub(crate) fn new(inner: T, bounds: &'b Bounds) -> Self {
        Self { inner, bounds, counts: false }
    }

    fn counting(inner: T, bounds: &'b Bounds) -> Self {
        Self { inner, bounds, counts: true }
    }
}

impl<'b, T> Bounded<'b, PhantomData<T>> {
    /// Creates the seed of `T`.
    pub(crate) fn seed(bounds: &'b Bounds) -> Self {
        Self::new(PhantomData, bounds)
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Bounded<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(Bounded::new(deserializer, self.bounds))
    }
}

/// Forwards the methods for values that contain no others.
macro_rules! plain {
    ($($name:ident)*) => {
        $(fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$name(visitor)
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Bounded<'_, D> {
    type Error = D::Error;

    plain! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32
        deserialize_i64 deserialize_i128 deserialize_u8 deserialize_u16 deserialize_u32
        deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64 deserialize_char
        deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf deserialize_unit
        deserialize_identifier deserialize_ignored_any
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit_struct(name, visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let Self { inner, bounds, .. } = self;
        bounds.nested(0, || inner.deserialize_option(Bounded::new(visitor, bounds)))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let Self { inner, bounds, .. } = self;
        let visitor = Bounded::new(visitor, bounds);
        bounds.nested(0, || inner.deserialize_newtype_struct(name, visitor))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let Self { inner, bounds, .. } = self;
        bounds.nested(1, || inner.deserialize_seq(Bounded::counting(visitor, bounds)))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let Self { inner, bounds, .. } = self;
        bounds.nested(1, || inner.deserialize_tuple(len, Bounded::new(visitor, bounds)))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let Self { inner, bounds, .. } = self;
        let visitor = Bounded::new(visitor, bounds);
        bounds.nested(1, || inner.deserialize_tuple_struct(name, len, visitor))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let Self { inner, bounds, .. } = self;
        bounds.nested(1, || inner.deserialize_map(Bounded::counting(visitor, bounds)))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let Self { inner, bounds, .. } = self;
        let visitor = Bounded::new(visitor, bounds);
        bounds.nested(1, || inner.deserialize_struct(name, fields, visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let Self { inner, bounds, .. } = self;
        let visitor = Bounded::new(visitor, bounds);
        bounds.nested(1, || inner.deserialize_enum(name, variants, visitor))
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// Visitors of values that hold others; of these, bincode calls nothing else.
impl<'de, V: Visitor<'de>> Visitor<'de> for Bounded<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.inner.visit_some(Bounded::new(deserializer, self.bounds))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<V::Value, D::Error> {
        self.inner.visit_newtype_struct(Bounded::new(deserializer, self.bounds))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        let Self { inner, bounds, counts } = self;
        inner.visit_seq(Bounded { inner: access, bounds, counts })
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        let Self { inner, bounds, counts } = self;
        inner.visit_map(Bounded { inner: access, bounds, counts })
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        self.inner.visit_enum(Bounded::new(access, self.bounds))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Bounded<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        let element = self.inner.next_element_seed(Bounded::new(seed, self.bounds))?;
        if self.counts && element.is_some() {
            self.bounds.element()?;
        }
        Ok(element)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Bounded<'_, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        let key = self.inner.next_key_seed(Bounded::new(seed, self.bounds))?;
        if self.counts && key.is_some() {
            self.bounds.element()?;
        }
        Ok(key)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.next_value_seed(Bounded::new(seed, self.bounds))
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'b, 'de, A: EnumAccess<'de>> EnumAccess<'de> for Bounded<'b, A> {
    type Error = A::Error;
    type Variant = Bounded<'b, A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self::Variant), A::Error> {
        let (value, variant) = self.inner.variant_seed(seed)?;
        Ok((value, Bounded::new(variant, self.bounds)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Bounded<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.newtype_variant_seed(Bounded::new(seed, self.bounds))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.inner.tuple_variant(len, Bounded::new(visitor, self.bounds))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.inner.struct_variant(fields, Bounded::new(visitor, self.bounds))
    }
}
