//! AMF0: how RTMP writes the arguments of commands and metadata (Action Message Format AMF 0).
//!
//! Nothing is allocated by a count the data claims, objects nest to [`AMF_DEPTH_MAX`] and no further, a message has at
//! most [`AMF_VALUES_MAX`] values, and text that is not UTF-8 is read with replacement characters.

use bytes::{BufMut, BytesMut};

use super::limits::{AMF_DEPTH_MAX, AMF_VALUES_MAX};
use crate::bits::{ByteReader, Truncated};

mod marker {
    pub(super) const NUMBER: u8 = 0x00;
    pub(super) const BOOLEAN: u8 = 0x01;
    pub(super) const STRING: u8 = 0x02;
    pub(super) const OBJECT: u8 = 0x03;
    pub(super) const NULL: u8 = 0x05;
    pub(super) const UNDEFINED: u8 = 0x06;
    pub(super) const REFERENCE: u8 = 0x07;
    pub(super) const ECMA_ARRAY: u8 = 0x08;
    pub(super) const OBJECT_END: u8 = 0x09;
    pub(super) const STRICT_ARRAY: u8 = 0x0a;
    pub(super) const DATE: u8 = 0x0b;
    pub(super) const LONG_STRING: u8 = 0x0c;
    pub(super) const UNSUPPORTED: u8 = 0x0d;
    pub(super) const XML: u8 = 0x0f;
    pub(super) const TYPED_OBJECT: u8 = 0x10;
}

/// Why AMF0 could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A value is longer than the message.
    #[error(transparent)]
    Truncated(#[from] Truncated),
    /// Objects lie in objects beyond [`AMF_DEPTH_MAX`].
    #[error("values are nested too deeply")]
    Depth,
    /// There are more than [`AMF_VALUES_MAX`] values.
    #[error("there are too many values")]
    Values,
    /// A marker that begins no value of AMF0.
    #[error("{0:#04x} begins no value")]
    Marker(u8),
}

/// A value. Typed objects and both kinds of named arrays are objects; dates are numbers; XML and long strings are strings.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number.
    Number(f64),
    /// A truth value.
    Boolean(bool),
    /// Text.
    String(String),
    /// Named values, in the order they came.
    Object(Vec<(String, Value)>),
    /// Values in a row.
    Array(Vec<Value>),
    /// Null, undefined, a reference or something unsupported: nothing to use.
    Null,
}

impl Value {
    /// The number, if it is one.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The value called `name`, if this is an object that has one.
    pub fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Self::Object(fields) => fields.iter().find(|(field, _)| field == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// An object of these fields.
    pub fn object<const N: usize>(fields: [(&str, Value); N]) -> Self {
        Self::Object(fields.map(|(name, value)| (name.to_owned(), value)).into())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

/// Reads all values of a message.
pub fn decode(bytes: &[u8]) -> Result<Vec<Value>, Error> {
    let mut decoder = Decoder { reader: ByteReader::new(bytes), values: 0 };
    let mut values = Vec::new();
    while !decoder.reader.is_empty() {
        values.push(decoder.value(0)?);
    }
    Ok(values)
}

struct Decoder<'a> {
    reader: ByteReader<'a>,
    values: usize,
}

impl Decoder<'_> {
    fn value(&mut self, depth: usize) -> Result<Value, Error> {
        self.values += 1;
        if self.values > AMF_VALUES_MAX {
            return Err(Error::Values);
        }
        if depth > AMF_DEPTH_MAX {
            return Err(Error::Depth);
        }
        Ok(match self.reader.u8()? {
            marker::NUMBER => Value::Number(self.reader.f64()?),
            marker::BOOLEAN => Value::Boolean(self.reader.u8()? != 0),
            marker::STRING => Value::String(self.short_text()?),
            marker::OBJECT => self.fields(depth)?,
            marker::NULL | marker::UNDEFINED | marker::UNSUPPORTED => Value::Null,
            marker::REFERENCE => {
                self.reader.skip(2)?;
                Value::Null
            }
            marker::ECMA_ARRAY => {
                // The count is a hint at best: FFmpeg writes one, others zero; the end marker decides.
                self.reader.skip(4)?;
                self.fields(depth)?
            }
            marker::STRICT_ARRAY => {
                let count = self.reader.u32()?;
                let mut items = Vec::new();
                for _ in 0..count {
                    items.push(self.value(depth + 1)?);
                }
                Value::Array(items)
            }
            marker::DATE => {
                let millis = self.reader.f64()?;
                self.reader.skip(2)?;
                Value::Number(millis)
            }
            marker::LONG_STRING | marker::XML => {
                let length = self.reader.u32()?;
                Value::String(text(self.reader.take(length as usize)?))
            }
            marker::TYPED_OBJECT => {
                self.short_text()?;
                self.fields(depth)?
            }
            other => return Err(Error::Marker(other)),
        })
    }

    /// Named values up to the end marker; some encoders leave that out at the end of a message.
    fn fields(&mut self, depth: usize) -> Result<Value, Error> {
        let mut fields = Vec::new();
        while !self.reader.is_empty() {
            let name = self.short_text()?;
            if name.is_empty() && self.reader.peek() == Some(marker::OBJECT_END) {
                self.reader.skip(1)?;
                break;
            }
            fields.push((name, self.value(depth + 1)?));
        }
        Ok(Value::Object(fields))
    }

    fn short_text(&mut self) -> Result<String, Error> {
        let length = self.reader.u16()?;
        Ok(text(self.reader.take(length.into())?))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Writes values one behind the other.
pub fn encode(values: &[Value]) -> BytesMut {
    let mut out = BytesMut::new();
    for value in values {
        put(&mut out, value);
    }
    out
}

fn put(out: &mut BytesMut, value: &Value) {
    match value {
        Value::Number(number) => {
            out.put_u8(marker::NUMBER);
            out.put_f64(*number);
        }
        Value::Boolean(truth) => {
            out.put_u8(marker::BOOLEAN);
            out.put_u8(u8::from(*truth));
        }
        Value::String(text) => match u16::try_from(text.len()) {
            Ok(length) => {
                out.put_u8(marker::STRING);
                out.put_u16(length);
                out.put_slice(text.as_bytes());
            }
            Err(_) => {
                out.put_u8(marker::LONG_STRING);
                out.put_u32(text.len() as u32);
                out.put_slice(text.as_bytes());
            }
        },
        Value::Object(fields) => {
            out.put_u8(marker::OBJECT);
            for (name, value) in fields {
                let name = name.as_bytes();
                let name = name.get(..usize::from(u16::MAX)).unwrap_or(name);
                out.put_u16(name.len() as u16);
                out.put_slice(name);
                put(out, value);
            }
            out.put_slice(&[0, 0, marker::OBJECT_END]);
        }
        Value::Array(items) => {
            out.put_u8(marker::STRICT_ARRAY);
            out.put_u32(items.len() as u32);
            for item in items {
                put(out, item);
            }
        }
        Value::Null => out.put_u8(marker::NULL),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_kind_of_value_is_read() {
        let bytes = [
            &[0x00, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0][..],
            &[0x01, 2],
            &[0x02, 0, 2, b'h', b'i'],
            &[0x03, 0, 1, b'a', 0x05, 0, 0, 9],
            &[0x06],
            &[0x07, 0, 1],
            &[0x08, 0xff, 0xff, 0xff, 0xff, 0, 1, b'b', 0x01, 0, 0, 0, 9],
            &[0x0a, 0, 0, 0, 1, 0x05],
            &[0x0b, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0x0c, 0, 0, 0, 1, 0xff],
            &[0x0d],
            &[0x0f, 0, 0, 0, 1, b'x'],
            &[0x10, 0, 1, b'T', 0, 0, 9],
        ]
        .concat();
        assert_eq!(
            decode(&bytes).unwrap(),
            [
                Value::Number(1.0),
                Value::Boolean(true),
                "hi".into(),
                Value::object([("a", Value::Null)]),
                Value::Null,
                Value::Null,
                Value::object([("b", Value::Boolean(false))]),
                Value::Array(vec![Value::Null]),
                Value::Number(2.0),
                "\u{fffd}".into(),
                Value::Null,
                "x".into(),
                Value::object([]),
            ]
        );
    }

    #[test]
    fn bombs_are_refused() {
        let deep = [0x03, 0, 1, b'a'].repeat(20_000);
        assert_eq!(decode(&deep), Err(Error::Depth));
        let deep = [0x0a, 0, 0, 0, 1].repeat(20_000);
        assert_eq!(decode(&deep), Err(Error::Depth));
        assert_eq!(decode(&[0x0a, 0xff, 0xff, 0xff, 0xff]), Err(Truncated.into()));
        assert_eq!(decode(&[0x08, 0xff, 0xff, 0xff, 0xff]), Ok(vec![Value::object([])]));
        let mut long = vec![0x0a, 0xff, 0xff, 0xff, 0xff];
        long.extend([0x05; 100_000]);
        assert_eq!(decode(&long), Err(Error::Values));
        assert_eq!(decode(&[0x0c, 0xff, 0xff, 0xff, 0xff, 1]), Err(Truncated.into()));
        assert_eq!(decode(&[0x02, 0xff, 0xff, 1]), Err(Truncated.into()));
        assert_eq!(decode(&[0x11]), Err(Error::Marker(0x11)));
    }

    #[test]
    fn what_lies_at_the_deepest_allowed_place_is_read() {
        let mut nested = Value::Null;
        for _ in 0..AMF_DEPTH_MAX {
            nested = Value::object([("a", nested)]);
        }
        assert_eq!(decode(&encode(std::slice::from_ref(&nested))), Ok(vec![nested]));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<f64>().prop_filter("NaN is not equal to itself", |n| !n.is_nan()).prop_map(Value::Number),
            any::<bool>().prop_map(Value::Boolean),
            ".{0,20}".prop_map(Value::String),
            Just(Value::Null),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
                prop::collection::vec(("[a-z]{1,8}", inner), 0..8).prop_map(Value::Object),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_can_be_read(values in prop::collection::vec(value(), 0..6)) {
            prop_assert_eq!(decode(&encode(&values)), Ok(values));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            drop(decode(&bytes));
        }
    }
}
