//! Compares the number of instructions that the core executes per exchange with the recorded numbers in `filter/instructions.json`.
//!
//! An interpreter counts WebAssembly instructions, which are the same on every machine. Host calls are not included. To record the
//! numbers of a change that justifies its overhead: `PAI_RECORD=1 scripts/test e2e instructions`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;

use e2e::harness::built;
use wasmi::{CompilationMode, Config, Engine, Instance, Linker, Module, Store, TypedFunc};

/// The allowed growth, because unrelated changes affect inlining.
const PERCENT: u64 = 5;

/// In the order of `filter/examples/exchange.rs`.
const WORKLOADS: [&str; 3] = ["chat", "stream", "long"];

struct Core {
    store: Store<()>,
    exchanges: TypedFunc<(i32, i32), ()>,
}

impl Core {
    fn load() -> Self {
        let module = built("wasm32-unknown-unknown/release/examples/exchange.wasm", "scripts/test e2e, which builds it");
        let module = std::fs::read(module).unwrap();
        // Compilation also consumes fuel, and is excluded by a first run.
        let engine = Engine::new(Config::default().consume_fuel(true).compilation_mode(CompilationMode::Eager));
        let module = Module::new(&engine, &module[..]).unwrap();
        let mut store = Store::new(&engine, ());
        let instance: Instance = Linker::new(&engine).instantiate_and_start(&mut store, &module).unwrap();
        let exchanges = instance.get_typed_func(&store, "exchanges").unwrap();
        Self { store, exchanges }
    }

    /// Returns the instructions of this number of exchanges, including their setup.
    fn count(&mut self, workload: usize, times: i32) -> u64 {
        let full = 1 << 40;
        self.store.set_fuel(full).unwrap();
        self.exchanges.call(&mut self.store, (workload.try_into().unwrap(), times)).unwrap();
        full - self.store.get_fuel().unwrap()
    }
}

#[test]
fn an_exchange_takes_no_more_instructions_than_before() {
    let mut core = Core::load();
    let counted: BTreeMap<&str, u64> =
        WORKLOADS.iter().enumerate().map(|(at, name)| (*name, (core.count(at, 30) - core.count(at, 10)) / 20)).collect();
    println!("{counted:?}");

    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../filter/instructions.json");
    if std::env::var_os("PAI_RECORD").is_some() {
        std::fs::write(&file, serde_json::to_string_pretty(&counted).unwrap() + "\n").unwrap();
    }
    let recorded: BTreeMap<String, u64> = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    for (name, counted) in counted {
        let before = recorded[name];
        assert!(counted <= before + before * PERCENT / 100, "{name}: {counted} instructions for an exchange; there were {before}");
    }
}
