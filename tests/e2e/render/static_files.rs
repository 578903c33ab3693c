//! Static files.

use std::path::PathBuf;
use std::process::Command;

use e2e::harness::{Rng, envoy_binary, seed};
use pai::render::{self, StaticOptions};

use super::{count, generate, module, version};

fn options(module: PathBuf) -> StaticOptions {
    StaticOptions {
        envoy: version(),
        module,
        listen: "127.0.0.1:0".parse().unwrap(),
        admin: "127.0.0.1:0".parse().unwrap(),
        authorities: PathBuf::from(render::SYSTEM_AUTHORITIES),
        file: PathBuf::from("envoy.yaml"),
    }
}

#[test]
fn envoy_accepts_every_static_file() {
    let mut rng = Rng::new(seed());
    let file = std::env::temp_dir().join(format!("pai-static-{}.yaml", std::process::id()));
    // Envoy compiles the module for each file. One without any function compiles faster, and accepts every policy: the generated ones
    // have been validated already.
    let fast = e2e::harness::built("wasm32-wasip1/release/noop_filter.wasm", "scripts/test e2e, which builds it");
    for number in 0..count(6).min(20) {
        let manifests = generate::manifests(&mut rng);
        let module = if number == 0 { module() } else { fast.clone() };
        let text = render::envoy(&manifests, &options(module)).unwrap();
        std::fs::write(&file, &text).unwrap();
        let mut envoy = Command::new(envoy_binary());
        envoy.args(["--mode", "validate", "-l", "error", "-c"]).arg(&file);
        let variables = text.lines().find_map(|line| line.trim().strip_prefix("host_env_keys: ["));
        for variable in variables.and_then(|line| line.split(']').next()).unwrap_or_default().split(", ") {
            envoy.env(variable, "key");
        }
        let output = envoy.output().unwrap();
        assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    }
    std::fs::remove_file(file).unwrap();
}
