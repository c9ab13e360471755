//! On what terms a key is good: from where, when, by which carriers, and how often at a time. Pure; the
//! clients file says them, the verdict on a knock asks them.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use postern_shared::knock::Carrier;

use super::judge::Refusal;
use crate::hours::Hours;

/// As they are written; what is left out does not narrow.
#[derive(Clone, Debug, Default)]
pub struct Written {
    pub from: Option<Vec<String>>,
    pub carriers: Option<Vec<String>>,
    pub not_before: Option<String>,
    pub until: Option<String>,
    pub hours: Option<Vec<String>>,
    /// Of the hours; this machine's if there is none.
    pub time_zone: Option<String>,
    pub max_tunnels: Option<usize>,
}

/// Terms that can be judged by.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Where it may be used; empty is anywhere.
    pub from: Vec<IpNet>,
    /// How it may be shown; empty is in any way.
    pub carriers: Vec<Carrier>,
    pub not_before: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub hours: Option<Hours>,
    /// Tunnels that may be open at a time.
    pub max_tunnels: Option<usize>,
}

impl Terms {
    /// The complaint names the value that is wrong.
    pub fn read(written: &Written) -> Result<Terms, String> {
        let time = |what: &str, text: &Option<String>| match text {
            Some(text) => match text.parse() {
                Ok(time) => Ok(Some(time)),
                Err(_) => Err(format!("{what} = {text:?} is not a time (RFC 3339)")),
            },
            None => Ok(None),
        };
        let hours = match (&written.hours, &written.time_zone) {
            (Some(hours), zone) => Some(Hours::parse(hours, zone.as_deref())?),
            (None, Some(_)) => return Err("time-zone goes with hours".to_owned()),
            (None, None) => None,
        };
        if written.max_tunnels == Some(0) {
            return Err("max-tunnels = 0 lets nobody in; revoke the key instead".to_owned());
        }
        Ok(Terms {
            from: list("from", &written.from, |text| {
                parse_net(text).ok_or_else(|| format!("{text:?} is not an address range"))
            })?,
            carriers: list("carriers", &written.carriers, |text| {
                let known = || Carrier::ALL.map(Carrier::name).join(", ");
                Carrier::from_name(text)
                    .ok_or_else(|| format!("no carrier {text:?}; there is: {}", known()))
            })?,
            not_before: time("not-before", &written.not_before)?,
            until: time("until", &written.until)?,
            hours,
            max_tunnels: written.max_tunnels,
        })
    }

    /// Why it is not good at this time, from there and, with a knock, in that way.
    pub fn refuse(&self, at: Timestamp, from: IpAddr, by: Option<Carrier>) -> Option<Refusal> {
        let from_elsewhere =
            !self.from.is_empty() && !self.from.iter().any(|net| net.contains(&from));
        let reasons = [
            (self.until.is_some_and(|until| until <= at), Refusal::Expired),
            (self.not_before.is_some_and(|begin| at < begin), Refusal::Early),
            (self.hours.as_ref().is_some_and(|hours| !hours.contain(at)), Refusal::Hours),
            (from_elsewhere, Refusal::Address),
            (by.is_some_and(|by| !self.allow(by)), Refusal::Carrier),
        ];
        reasons.into_iter().find_map(|(holds, reason)| holds.then_some(reason))
    }

    pub fn allow(&self, carrier: Carrier) -> bool {
        self.carriers.is_empty() || self.carriers.contains(&carrier)
    }
}

/// A list that is there but empty could be read as "any" or as "none".
fn list<T>(
    what: &str,
    texts: &Option<Vec<String>>,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    match texts {
        Some(texts) if texts.is_empty() => {
            Err(format!("{what} names nothing; leave it out so that it does not narrow"))
        }
        Some(texts) => texts.iter().map(|text| read(text)).collect(),
        None => Ok(Vec::new()),
    }
}

/// Whether a key or a secret may be called so: names stand in logs and in the lines that access programs
/// read, where a lone `-` is nobody.
pub fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte);
    (1..=63).contains(&name.len()) && !name.starts_with('-') && name.bytes().all(fits)
}

/// An address range in CIDR notation, or one address; a v4-mapped one is the v4 one that it means.
pub fn parse_net(text: &str) -> Option<IpNet> {
    let net: IpNet = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?;
    match (net.addr().to_canonical(), net.prefix_len().checked_sub(96)) {
        (IpAddr::V4(v4), Some(prefix)) if net.addr().is_ipv6() => {
            IpNet::new(IpAddr::V4(v4), prefix).ok()
        }
        _ => Some(net),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(written: Written, at: &str) -> Option<Refusal> {
        let from = "192.0.2.1".parse().expect("an address");
        let at = at.parse().expect("a time");
        Terms::read(&written).expect("right").refuse(at, from, Some(Carrier::Plain))
    }

    #[test]
    fn each_term_narrows() {
        let (noon, text) = ("2027-01-04T12:00:00Z", |text: &str| Some(text.to_owned()));
        let list = |item: &str| Some(vec![item.to_owned()]);
        let none = Written::default;
        for (written, expected) in [
            (none(), None),
            (Written { from: list("10.0.0.0/8"), ..none() }, Some(Refusal::Address)),
            (Written { from: list("192.0.2.0/24"), ..none() }, None),
            (Written { carriers: list("hello"), ..none() }, Some(Refusal::Carrier)),
            (Written { carriers: list("plain"), ..none() }, None),
            (Written { not_before: text("2027-01-04T12:00:01Z"), ..none() }, Some(Refusal::Early)),
            (Written { not_before: text(noon), ..none() }, None),
            (Written { until: text(noon), ..none() }, Some(Refusal::Expired)),
            (Written { until: text("2027-01-04T12:00:01Z"), ..none() }, None),
            (
                Written { hours: list("tue 00:00-24:00"), time_zone: text("UTC"), ..none() },
                Some(Refusal::Hours),
            ),
            (Written { hours: list("mon 12:00-13:00"), time_zone: text("UTC"), ..none() }, None),
        ] {
            assert_eq!(refuse(written.clone(), noon), expected, "{written:?}");
        }
    }

    #[test]
    fn what_cannot_hold_is_refused() {
        let zone = Written { time_zone: Some("UTC".to_owned()), ..Written::default() };
        assert!(Terms::read(&zone).is_err());
        let nobody = Written { max_tunnels: Some(0), ..Written::default() };
        assert!(Terms::read(&nobody).is_err());
        let nothing = Written { carriers: Some(Vec::new()), ..Written::default() };
        assert!(Terms::read(&nothing).is_err());
    }

    #[test]
    fn a_mapped_range_is_the_range_it_means() {
        let net = parse_net("::ffff:10.0.0.0/104").expect("a range");
        assert!(net.contains(&"10.200.0.1".parse::<IpAddr>().expect("an address")));
        assert_eq!(parse_net("::ffff:10.0.0.1"), parse_net("10.0.0.1"));
        assert_eq!(parse_net("10.0.0.0/33"), None);
    }
}
