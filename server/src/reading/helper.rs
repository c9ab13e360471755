//! One `[identifier.NAME]`, and a service's access program: who is asked, and how long for an answer.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;

use postern_shared::expose::entrance::is_name;

use super::{Reading, Result};
use crate::access::Access;
use crate::config;
use crate::helper::{Address, Helper, Role};
use crate::inquire::Identifier;

const DEFAULT_TIMEOUT: Duration = Duration::from_millis(50);
const MOST_TIMEOUT: Duration = Duration::from_secs(1);

const DEFAULT_ACCESS_TIMEOUT: Duration = Duration::from_secs(1);
const MOST_ACCESS_TIMEOUT: Duration = Duration::from_secs(10);

impl Reading<'_> {
    pub(crate) fn identifiers(
        &self,
        all: &BTreeMap<Spanned<String>, config::Identifier>,
    ) -> Result<Vec<Identifier>> {
        let read = |(name, identifier): (&Spanned<String>, &config::Identifier)| {
            if !is_name(name.get_ref()) {
                let what =
                    "an identifier's name is made of a-z, 0-9, - and _, and has at most 63 letters";
                return Err(self.complain(name, what));
            }
            let address =
                self.helper_address(&identifier.to, Role::Identify, identifier.user.as_ref())?;
            Ok(Identifier {
                name: name.get_ref().clone(),
                helper: Helper::new(Role::Identify, address),
                timeout: self.duration_if(
                    &identifier.timeout,
                    DEFAULT_TIMEOUT,
                    |timeout| timeout <= MOST_TIMEOUT,
                    "timeout must not be longer than 1s: visitors wait for it",
                )?,
                enabled: identifier.enabled,
            })
        };
        all.iter().map(read).collect()
    }

    pub(super) fn access(&self, service: &config::Service) -> Result<Option<Access>> {
        let Some(access) = &service.access else {
            return match (&service.access_timeout, &service.access_user) {
                (Some(text), _) => Err(self.complain(text, "access-timeout goes with access")),
                (None, Some(user)) => Err(self.complain(user, "access-user goes with access")),
                (None, None) => Ok(None),
            };
        };
        let address = self.helper_address(access, Role::Access, service.access_user.as_ref())?;
        let timeout = self.duration_if(
            &service.access_timeout,
            DEFAULT_ACCESS_TIMEOUT,
            |timeout| timeout <= MOST_ACCESS_TIMEOUT,
            "access-timeout must not be longer than 10s",
        )?;
        Ok(Some(Access { helper: Helper::new(Role::Access, address), timeout }))
    }

    fn helper_address(
        &self,
        text: &Spanned<String>,
        role: Role,
        user: Option<&Spanned<String>>,
    ) -> Result<Address> {
        if let Some(command) = text.get_ref().strip_prefix("exec:") {
            return self.program(text, command, user).map(Address::Exec);
        }
        if let Some(user) = user {
            return Err(self.complain(user, "a user goes with exec: only"));
        }
        if let Some(path) = text.get_ref().strip_prefix("unix:") {
            return Ok(Address::Unix(self.beside(Path::new(path))));
        }
        match (text.get_ref().strip_prefix("wasm:"), role) {
            (Some(path), Role::Identify) => self.module(text, path),
            (Some(_), Role::Access) => {
                Err(self
                    .complain(text, "a module can only identify first bytes; use exec: or unix:"))
            }
            (None, Role::Identify) => {
                Err(self.complain(text, "to must begin with exec:, unix: or wasm:"))
            }
            (None, Role::Access) => {
                Err(self.complain(text, "access must begin with exec: or unix:"))
            }
        }
    }

    #[cfg(feature = "wasm")]
    fn module(&self, text: &Spanned<String>, path: &str) -> Result<Address> {
        use std::io::Read;

        use crate::helper::{MOST_MODULE, Module};

        let path = self.beside(Path::new(path));
        let about = |what: String| self.complain(text, format!("{} {what}", path.display()));
        let mut code = Vec::new();
        std::fs::File::open(&path)
            .and_then(|file| file.take(MOST_MODULE + 1).read_to_end(&mut code))
            .map_err(|error| about(format!("cannot be read: {error}")))?;
        let module = Module::load(code).map_err(about)?;
        Ok(Address::Wasm(path, module.into()))
    }

    #[cfg(not(feature = "wasm"))]
    fn module(&self, text: &Spanned<String>, _path: &str) -> Result<Address> {
        let what =
            "this posternd was built without wasm: build it with --features wasm, or use exec:";
        Err(self.complain(text, what))
    }
}
