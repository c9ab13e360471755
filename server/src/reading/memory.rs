//! Static secrets, and how armed addresses are remembered.

use std::time::Duration;

use toml::Spanned;

use super::{Reading, Result, Services};
use crate::config::{self, Uses};
use crate::gate::memory::Keep;
use crate::gate::secrets::Secrets;
use crate::gate::store;
use crate::policy::Remembering;

const DEFAULT_MEMORY: Duration = Duration::from_secs(10);
const LONGEST_MEMORY: Duration = Duration::from_secs(300);

impl Reading<'_> {
    pub(crate) fn secrets(
        &self,
        knock: &config::Knock,
        services: &Services,
    ) -> Result<Option<Secrets>> {
        let Some(path) = &knock.static_secrets else { return Ok(None) };
        let file = self.beside(path.get_ref());
        let secrets = Secrets::parse(&file, &store::text(&file)?)?;
        for secret in secrets.iter() {
            if !services.get(&secret.service).is_some_and(|service| service.knock) {
                let (name, service) = (&secret.name, &secret.service);
                let what = format!(
                    "its secret {name:?} is for {service:?}, which no service with knock = true is"
                );
                return Err(self.complain(path, what));
            }
        }
        Ok(Some(secrets))
    }

    /// There is a memory where somebody can be armed: by a secret, or because it is asked for.
    pub(crate) fn memory(
        &self,
        knock: &config::Knock,
        decide: Duration,
    ) -> Result<Option<Remembering>> {
        if knock.static_secrets.is_none() && knock.memory.is_none() {
            let alone = "goes with memory, or with static-secrets";
            if let Some(uses) = &knock.memory_uses {
                return Err(self.complain(uses, format!("memory-uses {alone}")));
            }
            if let Some(silent) = &knock.memory_silent {
                return Err(self.complain(silent, format!("memory-silent {alone}")));
            }
            return Ok(None);
        }
        let time = self.duration_if(
            &knock.memory,
            DEFAULT_MEMORY,
            |time| time <= LONGEST_MEMORY,
            "memory must not be longer than 300s: who comes later from that address may be another",
        )?;
        let silent = match &knock.memory_silent {
            Some(_) => Some(self.duration_if(
                &knock.memory_silent,
                decide,
                |silent| silent <= decide,
                "memory-silent must not be longer than [timeouts] decide",
            )?),
            None => None,
        };
        let uses = knock.memory_uses.as_ref().map_or(Ok(Some(1)), |uses| self.uses(uses))?;
        Ok(Some(Remembering { keep: Keep { time, uses }, silent }))
    }

    fn uses(&self, uses: &Spanned<Uses>) -> Result<Option<usize>> {
        match uses.get_ref() {
            Uses::Number(uses @ 1..) => Ok(Some(*uses)),
            Uses::Word(word) if word == "unlimited" => Ok(None),
            Uses::Number(_) | Uses::Word(_) => {
                Err(self.complain(uses, "memory-uses is a number from 1, or \"unlimited\""))
            }
        }
    }
}
