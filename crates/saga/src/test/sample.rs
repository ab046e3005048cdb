//! The smallest value of a type, so that a rejection can be made where the user's models give none.

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer as _, MapAccess,
    SeqAccess, VariantAccess, Visitor, value::Error,
};

/// The smallest value of this type. None: it has none (an empty enum), or its values follow rules of their own.
pub(super) fn smallest<T: DeserializeOwned>() -> Option<T> {
    T::deserialize(Smallest).ok()
}

/// Answers each question with zero, empty, none, or the first variant.
#[derive(Clone, Copy)]
struct Smallest;

/// Fields by name, or items by number: each the smallest.
struct Parts<'a> {
    names: &'a [&'static str],
    left: usize,
}

macro_rules! answers {
    ($($question:ident $visit:ident $value:expr;)*) => {$(
        fn $question<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.$visit($value)
        }
    )*};
}

impl<'de> Deserializer<'de> for Smallest {
    type Error = Error;

    answers! {
        deserialize_bool visit_bool false;
        deserialize_i8 visit_i8 0;
        deserialize_i16 visit_i16 0;
        deserialize_i32 visit_i32 0;
        deserialize_i64 visit_i64 0;
        deserialize_i128 visit_i128 0;
        deserialize_u8 visit_u8 0;
        deserialize_u16 visit_u16 0;
        deserialize_u32 visit_u32 0;
        deserialize_u64 visit_u64 0;
        deserialize_u128 visit_u128 0;
        deserialize_f32 visit_f32 0.0;
        deserialize_f64 visit_f64 0.0;
        deserialize_char visit_char 'a';
        deserialize_str visit_borrowed_str "";
        deserialize_string visit_string String::new();
        deserialize_bytes visit_borrowed_bytes b"";
        deserialize_byte_buf visit_byte_buf Vec::new();
        deserialize_seq visit_seq Parts { names: &[], left: 0 };
        deserialize_map visit_map Parts { names: &[], left: 0 };
        deserialize_identifier visit_borrowed_str "";
    }
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }
    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_none()
    }
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }
    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Parts { names: &[], left: len })
    }
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_tuple(len, visitor)
    }
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Parts {
            names: fields,
            left: fields.len(),
        })
    }
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match variants.first() {
            Some(first) => visitor.visit_enum(First(first)),
            None => Err(Error::custom("an enum without variants has no value")),
        }
    }
}

impl<'de> SeqAccess<'de> for Parts<'_> {
    type Error = Error;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        seed.deserialize(Smallest).map(Some)
    }
}

impl<'de> MapAccess<'de> for Parts<'_> {
    type Error = Error;
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        seed.deserialize(self.names[self.names.len() - 1 - left].into_deserializer())
            .map(Some)
    }
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(Smallest)
    }
}

/// The first variant of an enum.
struct First(&'static str);

impl<'de> EnumAccess<'de> for First {
    type Error = Error;
    type Variant = Smallest;
    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Smallest), Error> {
        Ok((seed.deserialize(self.0.into_deserializer())?, Smallest))
    }
}

impl<'de> VariantAccess<'de> for Smallest {
    type Error = Error;
    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self)
    }
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_tuple(len, visitor)
    }
    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.deserialize_struct("", fields, visitor)
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::smallest;
    use crate::Never;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Refused {
        left: u32,
        why: Why,
        note: Option<String>,
        items: Vec<(u8, String)>,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Why {
        Limit { cents: i64 },
        Closed,
    }

    #[test]
    fn the_smallest_value_is_of_its_type() {
        let expected = Refused {
            left: 0,
            why: Why::Limit { cents: 0 },
            note: None,
            items: Vec::new(),
        };
        assert_eq!(smallest::<Refused>(), Some(expected));
        assert_eq!(smallest::<()>(), Some(()));
        assert_eq!(smallest::<(bool, String)>(), Some((false, String::new())));
        assert!(smallest::<Never>().is_none());
    }
}
