//! How a profile's values are written as TOML strings. Never repeats a rejected value: it may be a key
//! in the wrong place.

use postern_shared::hello::HostName;
use postern_shared::hex;
use postern_shared::knock::{Carrier, Kid, Locator, ServerId};
use postern_shared::pin::Pin;
use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};
use zeroize::Zeroizing;

use super::Alpn;
use crate::names::Host;

/// A value that a profile holds as a string. Use it with `#[serde(with = "text")]`.
pub(super) trait Text: Sized {
    /// What a right value looks like.
    const FORM: &'static str;

    fn read(text: &str) -> Option<Self>;

    fn write(&self) -> Zeroizing<String>;
}

pub(super) fn serialize<T: Text, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&value.write())
}

pub(super) fn deserialize<'de, T: Text, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    let text = Zeroizing::new(String::deserialize(from)?);
    T::read(&text).ok_or_else(|| D::Error::custom(format_args!("expected {}", T::FORM)))
}

/// One value, for use within other types.
struct As<T>(T);

impl<T: Text> Serialize for As<&T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        serialize(self.0, to)
    }
}

impl<'de, T: Text> Deserialize<'de> for As<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        deserialize(from).map(As)
    }
}

/// For a value that may be absent.
pub(super) mod option {
    use super::{As, Deserialize, Deserializer, Serialize, Serializer, Text};

    pub(crate) fn serialize<T: Text, S: Serializer>(
        value: &Option<T>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().map(As).serialize(to)
    }

    pub(crate) fn deserialize<'de, T: Text, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<T>, D::Error> {
        Ok(Option::<As<T>>::deserialize(from)?.map(|value| value.0))
    }
}

/// For a list that may be empty.
pub(super) mod any {
    pub(crate) use super::list::serialize;
    use super::{As, Deserialize, Deserializer, Text};

    pub(crate) fn deserialize<'de, T: Text, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<T>, D::Error> {
        Ok(Vec::<As<T>>::deserialize(from)?.into_iter().map(|value| value.0).collect())
    }
}

/// For a list of at least one value.
pub(super) mod list {
    use super::{As, Deserializer, Error, Serializer, Text, any};

    pub(crate) fn serialize<T: Text, S: Serializer>(
        values: &[T],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(values.iter().map(As))
    }

    pub(crate) fn deserialize<'de, T: Text, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<T>, D::Error> {
        let values = any::deserialize(from)?;
        if values.is_empty() {
            return Err(D::Error::custom(format_args!("expected at least one of {}", T::FORM)));
        }
        Ok(values)
    }
}

fn plain(value: impl ToString) -> Zeroizing<String> {
    Zeroizing::new(value.to_string())
}

impl Text for Host {
    const FORM: &'static str = "a host name or an IP address";

    fn read(text: &str) -> Option<Host> {
        text.parse().ok()
    }

    fn write(&self) -> Zeroizing<String> {
        plain(self)
    }
}

impl Text for ServerId {
    const FORM: &'static str = "32 hex digits";

    fn read(text: &str) -> Option<ServerId> {
        hex::decode(text).map(ServerId)
    }

    fn write(&self) -> Zeroizing<String> {
        hex::encode(&self.0)
    }
}

impl Text for Locator {
    const FORM: &'static str = "64 hex digits";

    fn read(text: &str) -> Option<Locator> {
        hex::decode(text).map(Locator::new)
    }

    fn write(&self) -> Zeroizing<String> {
        hex::encode(self.expose())
    }
}

impl Text for Kid {
    const FORM: &'static str = "8 hex digits, not all 0";

    fn read(text: &str) -> Option<Kid> {
        hex::decode(text).and_then(|bytes| Kid::new(u32::from_be_bytes(bytes)))
    }

    fn write(&self) -> Zeroizing<String> {
        plain(self)
    }
}

impl Text for Carrier {
    const FORM: &'static str = "\"hello\", \"tls\" or \"plain\"";

    fn read(text: &str) -> Option<Carrier> {
        Carrier::from_name(text)
    }

    fn write(&self) -> Zeroizing<String> {
        plain(self)
    }
}

impl Text for Alpn {
    const FORM: &'static str = "\"h2\" or \"http/1.1\"";

    fn read(text: &str) -> Option<Alpn> {
        [Alpn::H2, Alpn::Http1].into_iter().find(|alpn| alpn.name() == text)
    }

    fn write(&self) -> Zeroizing<String> {
        plain(self.name())
    }
}

impl Text for HostName {
    const FORM: &'static str = "a host name";

    fn read(text: &str) -> Option<HostName> {
        HostName::parse(text.as_bytes())
    }

    fn write(&self) -> Zeroizing<String> {
        plain(self)
    }
}

impl Text for Pin {
    const FORM: &'static str = "sha256/ and the base64 of 32 bytes";

    fn read(text: &str) -> Option<Pin> {
        text.parse().ok()
    }

    fn write(&self) -> Zeroizing<String> {
        plain(self)
    }
}
