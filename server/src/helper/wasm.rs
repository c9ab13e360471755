//! Identifiers that are WebAssembly modules, run within posternd. A module gets no import, so it can
//! do nothing but compute; decides how much of that, and of memory, a question may take.
//!
//! It exports `memory`, `alloc(len: i32) -> i32`, which says where the first bytes are to be put, and
//! `identify(ptr: i32, len: i32) -> i32`, which answers 0 for no, 1 for yes and 2 for "more bytes". Each question is asked
//! of a fresh instance: nothing of one stranger's bytes is left for the next one's.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tracing::warn;
use wasmi::{
    CompilationMode, Config, EnforcedLimits, Engine, Error, Linker, Store, StoreLimits,
    StoreLimitsBuilder,
};

use super::{Ask, Question, Reply};

/// Steps that an answer may take: a few milliseconds.
const FUEL: u64 = 1_000_000;

/// Of an instance's memory, and of the module's file.
const MEMORY: usize = 1 << 20;
pub const MOST_MODULE: u64 = 1 << 20;

/// An instance's tables, and the places in each: compilers make one, with a place for each function.
const TABLES: usize = 4;
const PLACES: usize = 8192;

/// Levels of calls.
const DEEPEST: usize = 256;

/// Between two lines about the same trouble.
const QUIET: Duration = Duration::from_secs(10);

/// A module that was found fit.
pub struct Module {
    code: Vec<u8>,
    linker: Linker<StoreLimits>,
    module: wasmi::Module,
}

impl PartialEq for Module {
    fn eq(&self, other: &Module) -> bool {
        self.code == other.code
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a module of {} bytes", self.code.len())
    }
}

impl Module {
    /// Takes a module that answers about some bytes, whatever it answers.
    pub(crate) fn load(code: Vec<u8>) -> Result<Module, String> {
        if u64::try_from(code.len()).is_ok_and(|length| length > MOST_MODULE) {
            return Err("is larger than a megabyte".to_owned());
        }
        if !code.starts_with(b"\0asm") {
            return Err("is no WebAssembly; `wat2wasm` makes it of text".to_owned());
        }
        let mut config = Config::default();
        config
            .consume_fuel(true)
            .set_max_recursion_depth(DEEPEST)
            .enforced_limits(EnforcedLimits::strict())
            .compilation_mode(CompilationMode::Eager)
            .ignore_custom_sections(true);
        let engine = Engine::new(&config);
        let wrong = |error: Error| {
            let words = error.to_string();
            let words: Vec<_> = words.split_whitespace().collect();
            format!("is no module for posternd: {}", words.join(" "))
        };
        let module = wasmi::Module::new(&engine, &code).map_err(wrong)?;
        let linker = Linker::new(&engine);
        let module = Module { code, linker, module };
        module.run(b"\0").map_err(wrong)?;
        Ok(module)
    }

    fn run(&self, bytes: &[u8]) -> Result<Reply, Error> {
        let limits = StoreLimitsBuilder::new()
            .memory_size(MEMORY)
            .memories(1)
            .tables(TABLES)
            .table_elements(PLACES)
            .build();
        let mut store = Store::new(self.module.engine(), limits);
        store.limiter(|limits| limits);
        store.set_fuel(FUEL)?;
        let instance = self.linker.instantiate_and_start(&mut store, &self.module)?;
        let lacks = |what| Error::new(format!("it exports no {what}"));
        let memory = instance.get_memory(&store, "memory").ok_or_else(|| lacks("memory"))?;
        let alloc = instance
            .get_typed_func::<i32, i32>(&store, "alloc")
            .map_err(|_| lacks("alloc(i32) -> i32"))?;
        let identify = instance
            .get_typed_func::<(i32, i32), i32>(&store, "identify")
            .map_err(|_| lacks("identify(i32, i32) -> i32"))?;
        let length = i32::try_from(bytes.len()).map_err(|_| Error::new("too many bytes"))?;
        let pointer = alloc.call(&mut store, length)?;
        // An address has no sign.
        let place = usize::try_from(pointer.cast_unsigned()).unwrap_or(usize::MAX);
        memory
            .write(&mut store, place, bytes)
            .map_err(|_| Error::new("alloc gave a place outside of its memory"))?;
        match identify.call(&mut store, (pointer, length))? {
            0 => Ok(Reply::No),
            1 => Ok(Reply::Yes),
            2 => Ok(Reply::More(None)),
            other => Err(Error::new(format!("identify answered {other}, which is not 0, 1 or 2"))),
        }
    }
}

/// Answers, one question at a time, until told to stop.
pub(super) async fn keep(
    path: PathBuf,
    module: Arc<Module>,
    mut asks: mpsc::Receiver<Ask>,
    mut stop: oneshot::Receiver<()>,
) {
    let mut warned: Option<Instant> = None;
    loop {
        let ask = tokio::select! {
            biased;
            _ = &mut stop => return,
            ask = asks.recv() => ask,
        };
        let Some(Ask { question, reply, place }) = ask else { return };
        let Question::Bytes(bytes) = question else { continue };
        if reply.is_closed() {
            continue;
        }
        let module = module.clone();
        // Elsewhere: other helpers are answered meanwhile.
        let answer = match spawn_blocking(move || module.run(&bytes)).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::new("posternd's own fault")),
        };
        drop(place);
        match answer {
            Ok(answer) => drop(reply.send(answer)),
            Err(error) if warned.is_none_or(|at| at.elapsed() > QUIET) => {
                warned = Some(Instant::now());
                warn!(%error, "the identifier wasm:{} failed; that is taken for no", path.display());
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module of these parts, with a page of memory.
    fn module(parts: &str) -> Result<Module, String> {
        let text = format!("(module (memory (export \"memory\") 1) {parts})");
        Module::load(wat::parse_str(text).expect("sound text"))
    }

    const ALLOC: &str = "(func (export \"alloc\") (param i32) (result i32) (i32.const 0))";

    /// With this for `identify`, whose parameters are $bytes and $length.
    fn identify(body: &str) -> String {
        let head =
            "(func (export \"identify\") (param $bytes i32) (param $length i32) (result i32)";
        format!("{ALLOC} {head} {body})")
    }

    /// It behaves as long as the first byte is 0, as it is when it is loaded.
    fn bad(what: &str) -> String {
        identify(&format!("(if (i32.load8_u (local.get $bytes)) (then {what})) (i32.const 0)"))
    }

    fn answer(parts: &str, bytes: &[u8]) -> Result<Reply, String> {
        let module = module(parts).expect("fit");
        // As often as one likes: each time anew.
        let first = module.run(bytes).map_err(|error| error.to_string());
        assert_eq!(first, module.run(bytes).map_err(|error| error.to_string()));
        first
    }

    #[test]
    fn the_sample_identifies() {
        let text = include_str!("../../../contrib/identifiers/echo.wat");
        let module = Module::load(wat::parse_str(text).expect("sound")).expect("fit");
        for (bytes, reply) in [
            (&b""[..], Reply::More(None)),
            (b"echo", Reply::More(None)),
            (b"echo ", Reply::Yes),
            (b"echo 1\n", Reply::Yes),
            (b"ecHo ", Reply::No),
            (&[b'x'; 4096], Reply::No),
        ] {
            assert_eq!(module.run(bytes).ok(), Some(reply), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn nothing_is_kept_between_questions() {
        let counts = "(global $count (mut i32) (i32.const 0))";
        let body = "(global.set $count (i32.add (global.get $count) (i32.const 1)))
            (i32.store (i32.const 64) (i32.add (i32.load (i32.const 64)) (i32.const 1)))
            (i32.and (i32.eq (global.get $count) (i32.const 1)) (i32.eq (i32.load (i32.const 64)) (i32.const 1)))";
        assert_eq!(answer(&format!("{counts} {}", identify(body)), b"x"), Ok(Reply::Yes));
    }

    #[test]
    fn steps_levels_and_memory_are_bounded() {
        let spins = bad("(loop $for_ever (br $for_ever))");
        assert!(answer(&spins, b"x").expect_err("stopped").contains("fuel"));
        let deep = "(func $deeper (call $deeper))";
        assert!(answer(&format!("{deep} {}", bad("(call $deeper)")), b"x").is_err());
        // A page has 64 KiB; there is one already.
        let grows =
            |pages| identify(&format!("(i32.ne (memory.grow (i32.const {pages})) (i32.const -1))"));
        assert_eq!(answer(&grows(15), b"x"), Ok(Reply::Yes));
        assert_eq!(answer(&grows(16), b"x"), Ok(Reply::No));
        assert!(answer(&bad("(unreachable)"), b"x").is_err());
        let outside = "(drop (i32.load (i32.const 0x7ffffff0)))";
        assert!(answer(&bad(outside), b"x").is_err());
        assert!(answer(&bad("(return (i32.const 3))"), b"x").expect_err("no answer").contains('3'));
    }

    #[test]
    fn what_cannot_be_a_module_for_posternd() {
        let right = identify("(i32.const 0)");
        assert!(module(&right).is_ok());
        for (parts, why) in [
            ("(func (export \"alloc\") (param i32) (result i32) (i32.const 0))", "identify"),
            ("(func (export \"identify\") (param i32 i32) (result i32) (i32.const 0))", "alloc"),
            (&*right.replace("(param i32) (result i32)", "(param i64) (result i32)"), "alloc"),
            (&*right.replace("(i32.const 0))", "(i32.const -4))"), "outside"),
            (&*identify("(i32.const 9)"), "9"),
            (&*identify("(unreachable)"), ""),
        ] {
            let refused = module(parts).expect_err(parts);
            assert!(refused.starts_with("is no module") && refused.contains(why), "{refused}");
        }
        let whole = |text: &str| Module::load(wat::parse_str(text).expect("sound"));
        let import = "(module (import \"env\" \"f\" (func)))";
        let refused = whole(import).expect_err("nothing is there to import");
        assert!(refused.contains("env") || refused.contains("import"), "{refused}");
        let greedy = format!("(module (memory (export \"memory\") 17) {right})");
        assert!(whole(&greedy).is_err());
        // Each place of a table takes memory too.
        let page = "(memory (export \"memory\") 1)";
        for table in ["(table 10000000 funcref)", "(table 1 funcref) (table 10000000 externref)"] {
            assert!(whole(&format!("(module {page} {table} {right})")).is_err(), "{table}");
        }
        assert!(Module::load(b"echo".to_vec()).is_err());
        assert!(Module::load(vec![0; 1 << 21]).expect_err("too large").contains("megabyte"));
    }
}
