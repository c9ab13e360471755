//! How long and how many: time spans and limits, and what they may be.

use std::time::Duration;

use jiff::SignedDuration;
use toml::Spanned;

use super::{Reading, Result};
use crate::config;
use crate::liveness::Liveness;
use crate::policy::Limits;

/// Longer than any website lets a visitor keep silent.
const MOST_DECIDE: Duration = Duration::from_secs(60);

const WINDOW: std::ops::RangeInclusive<u64> = 5..=300;

/// Connections that may wait to be accepted, where the file does not say.
const BACKLOG: i32 = 4096;

const SECOND: Duration = Duration::from_secs(1);

impl Reading<'_> {
    pub(crate) fn duration(
        &self,
        text: &Option<Spanned<String>>,
        default: Duration,
    ) -> Result<Duration> {
        let Some(text) = text else { return Ok(default) };
        self.span(text, "write \"500ms\", \"3s\" or \"2m\"")
    }

    fn span(&self, text: &Spanned<String>, fix: &str) -> Result<Duration> {
        text.get_ref()
            .parse::<SignedDuration>()
            .ok()
            .and_then(|duration| Duration::try_from(duration).ok())
            .filter(|duration| !duration.is_zero())
            .ok_or_else(|| {
                self.complain(text, format!("{:?} is not a time span; {fix}", text.get_ref()))
            })
    }

    pub(crate) fn decide(
        &self,
        text: &Option<Spanned<String>>,
        default: Duration,
    ) -> Result<Duration> {
        let fits = |decide| decide <= MOST_DECIDE;
        self.duration_if(text, default, fits, "decide must not be longer than 60s")
    }

    pub(crate) fn window(
        &self,
        text: &Option<Spanned<String>>,
        default: Duration,
    ) -> Result<Duration> {
        let fits = |window: Duration| WINDOW.contains(&window.as_secs());
        self.duration_if(text, default, fits, "window must lie between 5s and 300s")
    }

    pub(super) fn duration_if(
        &self,
        text: &Option<Spanned<String>>,
        default: Duration,
        fits: impl Fn(Duration) -> bool,
        otherwise: &str,
    ) -> Result<Duration> {
        let duration = self.duration(text, default)?;
        match text {
            Some(text) if !fits(duration) => Err(self.complain(text, otherwise)),
            Some(_) | None => Ok(duration),
        }
    }

    pub(crate) fn limits(&self, limits: &config::Limits) -> Result<Limits> {
        let read = |value: &Option<Spanned<usize>>, default: usize, least: usize| match value {
            Some(value) if *value.get_ref() < least => {
                let what = format!("{} is too few: it must be at least {least}", value.get_ref());
                Err(self.complain(value, what))
            }
            Some(value) => Ok(*value.get_ref()),
            None => Ok(default),
        };
        Ok(Limits {
            // Below this the reserve for the admitted would leave visitors nothing.
            connections: read(&limits.connections, Limits::DEFAULT.connections, 128)?,
            undecided: read(&limits.undecided, Limits::DEFAULT.undecided, 1)?,
            undecided_per_address: read(
                &limits.undecided_per_address,
                Limits::DEFAULT.undecided_per_address,
                1,
            )?,
        })
    }

    pub(crate) fn liveness(&self, timeouts: &config::Timeouts) -> Result<Liveness> {
        let span = |text: &Option<Spanned<String>>, default| match text {
            None => Ok(default),
            Some(text) if text.get_ref() == "off" => Ok(None),
            Some(text) => {
                let span = self.span(text, "write \"500ms\", \"3s\" or \"2m\", or \"off\"")?;
                // The kernel counts keepalive in seconds.
                Ok(Some(span.max(SECOND)))
            }
        };
        Ok(Liveness {
            keepalive: span(&timeouts.keepalive, Some(Liveness::DEFAULT_KEEPALIVE))?,
            user_timeout: span(&timeouts.user_timeout, None)?,
        })
    }

    pub(crate) fn backlog(&self, backlog: Option<&Spanned<usize>>) -> Result<i32> {
        let Some(backlog) = backlog else { return Ok(BACKLOG) };
        i32::try_from(*backlog.get_ref()).ok().filter(|backlog| *backlog > 0).ok_or_else(|| {
            let what =
                format!("{} cannot be a backlog; leave it out for {BACKLOG}", backlog.get_ref());
            self.complain(backlog, what)
        })
    }
}
