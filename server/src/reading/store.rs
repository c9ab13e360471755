//! The store of a fleet, and the file with its password. Decides what an address may be; connects nowhere.

use std::os::unix::fs::MetadataExt;

use super::{Reading, Result};
use crate::config;
use crate::gate::StoreAddress;

impl Reading<'_> {
    pub(crate) fn store(&self, knock: &config::Knock) -> Result<Option<StoreAddress>> {
        let Some(text) = &knock.store else {
            return match &knock.store_password_file {
                Some(path) => Err(self.complain(path, "store-password-file goes with store")),
                None => Ok(None),
            };
        };
        let store = StoreAddress::parse(text.get_ref())
            .map_err(|what| self.complain(text, format!("this store {what}")))?;
        let Some(path) = &knock.store_password_file else { return Ok(Some(store)) };
        if store.has_password() {
            let what = "there is a password in store already; leave one of them out";
            return Err(self.complain(path, what));
        }
        let file = self.beside(path.get_ref());
        let read = std::fs::metadata(&file)
            .and_then(|meta| Ok((meta.mode(), std::fs::read_to_string(&file)?)));
        let (mode, password) = read.map_err(|error| {
            self.complain(path, format!("{} cannot be read: {error}", file.display()))
        })?;
        if mode & 0o007 != 0 {
            let file = file.display();
            return Err(
                self.complain(path, format!("others can read {file}; run: chmod o= {file}"))
            );
        }
        let password = password.trim_end_matches(['\r', '\n']);
        if password.is_empty() {
            return Err(self.complain(path, format!("{} is empty", file.display())));
        }
        Ok(Some(store.with_password(password)))
    }
}
