//! Checks that every configuration is accepted, or rejected with a bounded number of short lines that contain no secret.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pai_filter::{config, exchange::gate::Gate};

const SECRET: &str = "sk-secret-of-the-provider";

fuzz_target!(|text: &[u8]| {
    let env = |name: &str| name.starts_with("PAI_SECRET_").then(|| SECRET.to_owned());
    match config::load(text, &env) {
        Ok(policy) => {
            assert!(!format!("{policy:?}").contains(SECRET));
            let _ = Gate::new(policy);
        }
        Err(invalid) => {
            let lines: Vec<_> = invalid.lines().collect();
            assert!((1..=21).contains(&lines.len()), "{lines:?}");
            for line in lines {
                assert!(!line.chars().any(char::is_control), "{line:?}");
                assert!(line.len() < 600 && !line.contains(SECRET), "{line:?}");
            }
        }
    }
});
