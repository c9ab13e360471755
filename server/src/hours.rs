//! Times of the week, as `mon-fri 08:00-18:00` in a time zone. Pure: whoever asks brings the time.

use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

const FORM: &str = "write \"08:00-18:00\", \"mon-fri 08:00-18:00\" or \"sat,sun 22:00-06:00\"";

/// Minutes of a day.
const MIDNIGHT: u16 = 24 * 60;

/// When something may be: in any of its spans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hours {
    written: String,
    spans: Vec<Span>,
    zone: TimeZone,
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

/// One stretch on each of some days; one that ends at its beginning's time or before goes on to the next
/// day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    days: [bool; 7],
    from: u16,
    to: u16,
}

impl Hours {
    /// Without a zone, that of this machine.
    pub fn parse(texts: &[String], zone: Option<&str>) -> Result<Hours, String> {
        if texts.is_empty() {
            return Err("hours names no time; leave it out to allow all".to_owned());
        }
        let spans = texts
            .iter()
            .map(|text| {
                Span::parse(text).ok_or_else(|| format!("{text:?} is no time of the week; {FORM}"))
            })
            .collect::<Result<_, _>>()?;
        let written = texts.iter().map(String::as_str).chain(zone).collect::<Vec<_>>().join(", ");
        let zone = zone.map_or_else(|| Ok(TimeZone::system()), parse_zone)?;
        Ok(Hours { written, spans, zone })
    }

    pub fn contain(&self, at: Timestamp) -> bool {
        let local = at.to_zoned(self.zone.clone());
        let day = usize::try_from(local.weekday().to_monday_zero_offset()).unwrap_or(0);
        let minute =
            u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs());
        self.spans.iter().any(|span| span.contains(day, minute))
    }
}

/// A name of the IANA time zone database.
fn parse_zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name)
        .map_err(|_| format!("no time zone {name:?}; write one like \"Europe/Berlin\""))
}

impl Span {
    fn parse(text: &str) -> Option<Span> {
        let mut words = text.split_ascii_whitespace();
        let (first, second) = (words.next()?, words.next());
        let (days, times) = match second {
            Some(times) => (parse_days(first)?, times),
            None => ([true; 7], first),
        };
        let (from, to) = times.split_once('-')?;
        let (from, to) = (parse_time(from)?, parse_time(to)?);
        let right = words.next().is_none() && from != to && from < MIDNIGHT;
        right.then_some(Span { days, from, to })
    }

    fn contains(&self, day: usize, minute: u16) -> bool {
        let on = |day: usize| self.days.get(day % 7).copied().unwrap_or(false);
        if self.from < self.to {
            on(day) && (self.from..self.to).contains(&minute)
        } else {
            on(day) && minute >= self.from || on(day + 6) && minute < self.to
        }
    }
}

/// `mon`, `mon-fri`, `sat,sun` or `fri-mon`.
fn parse_days(text: &str) -> Option<[bool; 7]> {
    let number = |name: &str| DAYS.iter().position(|day| day.eq_ignore_ascii_case(name));
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        let count = (last + 7 - first) % 7 + 1;
        for day in (first..).take(count) {
            *days.get_mut(day % 7)? = true;
        }
    }
    Some(days)
}

/// `HH:MM`, up to `24:00`.
fn parse_time(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| {
        text.parse::<u16>()
            .ok()
            .filter(|_| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit()))
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    let time = hour * 60 + minute;
    (minute < 60 && time <= MIDNIGHT).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(texts: &[&str]) -> Hours {
        let texts: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
        Hours::parse(&texts, Some("Europe/Berlin")).expect("right")
    }

    /// What of these local times of a week in January (UTC+1) or July (UTC+2) is within.
    fn within(hours: &Hours, times: &[&str]) -> Vec<bool> {
        let at = |time: &&str| time.parse::<Timestamp>().expect("a time");
        times.iter().map(at).map(|at| hours.contain(at)).collect()
    }

    #[test]
    fn a_span_is_of_its_days_in_its_zone() {
        // 2027-01-04 is a Monday.
        let times = [
            "2027-01-04T06:59:59Z",
            "2027-01-04T07:00:00Z",
            "2027-01-08T16:59:59Z",
            "2027-01-08T17:00:00Z",
            "2027-01-09T12:00:00Z",
            "2027-07-05T06:00:00Z",
            "2027-07-05T16:00:00Z",
        ];
        let office = hours(&["mon-fri 08:00-18:00"]);
        assert_eq!(within(&office, &times), [false, true, true, false, false, true, false]);
        let also = hours(&["mon-fri 08:00-18:00", "sat 13:00-14:00"]);
        assert!(within(&also, &times)[4]);
    }

    #[test]
    fn a_night_belongs_to_the_day_it_begins_on() {
        let nights = hours(&["fri,sun 22:00-06:00"]);
        let times = [
            "2027-01-08T21:00:00Z",
            "2027-01-09T04:59:00Z",
            "2027-01-09T05:00:00Z",
            "2027-01-09T21:30:00Z",
            "2027-01-11T04:00:00Z",
            "2027-01-08T04:00:00Z",
        ];
        assert_eq!(within(&nights, &times), [true, true, false, false, true, false]);
    }

    #[test]
    fn days_may_go_around_and_a_day_may_be_whole() {
        assert_eq!(parse_days("fri-mon"), parse_days("mon,fri,sat,sun"));
        let whole = hours(&["00:00-24:00"]);
        assert_eq!(within(&whole, &["2027-01-05T23:00:00Z", "2027-01-05T22:59:59Z"]), [true; 2]);
    }

    #[test]
    fn what_is_no_time_of_the_week_is_refused() {
        for text in [
            "",
            "mon",
            "mon-fri",
            "8:00-18:00",
            "08:00",
            "08:00-18:60",
            "25:00-26:00",
            "24:00-06:00",
            "08:00-08:00",
            "mon-fr 08:00-18:00",
            "mon, tue 08:00-09:00",
            "mon 08:00-09:00 x",
            "-",
            "+8:00-09:00",
        ] {
            assert!(Hours::parse(&[text.to_owned()], None).is_err(), "{text:?}");
        }
        assert!(Hours::parse(&[], None).is_err());
        assert!(Hours::parse(&["08:00-09:00".to_owned()], Some("Middle/Earth")).is_err());
    }
}
