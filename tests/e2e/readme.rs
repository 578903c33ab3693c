//! Runs what the README, the documentation and the shipped configuration contain, as written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use e2e::harness::{EnvoyFeature, envoy_binary, installed_clients, until};

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// Returns the code blocks of a document in `language`.
fn blocks_of(document: &str, language: &str) -> Vec<String> {
    let text = read(document);
    let blocks = text.split("\n```").skip(1).step_by(2);
    blocks.filter_map(|block| block.strip_prefix(&format!("{language}\n"))).map(str::to_owned).collect()
}

fn blocks(language: &str) -> Vec<String> {
    blocks_of("README.md", language)
}

fn shell(command: &str) -> Output {
    Command::new("bash").arg("-c").arg(command).current_dir(root()).output().unwrap()
}

/// `scripts/run` on a port of its own, until dropped.
struct Running {
    script: Child,
    port: u16,
    said: String,
}

impl Running {
    fn start(options: &[&str]) -> Self {
        // The port is free until another process binds it; the script reports it if it is taken.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let port_option = port.to_string();
        let mut command = Command::new("scripts/run");
        command.args(["--port", &port_option]).args(options).current_dir(root()).stdout(Stdio::piped());
        let mut running = Self { script: command.spawn().unwrap(), port, said: String::new() };
        for line in BufReader::new(running.script.stdout.take().unwrap()).lines() {
            running.said.push_str(&line.unwrap());
            running.said.push('\n');
            if running.said.contains("/stats/prometheus") {
                return running;
            }
        }
        panic!("scripts/run ended: {}", running.said);
    }

    /// Returns a command of the README with this port.
    fn here(&self, command: &str) -> String {
        command.replace("127.0.0.1:8080", &format!("127.0.0.1:{}", self.port))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.script.id().to_string()]).status();
        let _ = self.script.wait();
    }
}

#[test]
fn the_readmes_configuration_is_accepted() {
    let [configuration] = &blocks("yaml")[..] else { panic!("one configuration") };
    pai_filter::config::load(configuration.as_bytes(), &|_| None).unwrap();
    assert!(configuration.lines().count() <= 20);
}

#[test]
fn the_shipped_manifests_are_in_envoys_configuration() {
    let manifests = read("envoy/pai.yaml");
    pai_filter::config::load(manifests.as_bytes(), &|_| None).unwrap();
    let envoy = read("envoy/envoy.yaml");
    let (_, held) = envoy.split_once("value: | # envoy/pai.yaml, to the end of this text\n").unwrap();
    let indent = held.len() - held.trim_start_matches(' ').len();
    let held = held.lines().take_while(|line| line.starts_with(&" ".repeat(indent)) || line.is_empty());
    let held: String = held.map(|line| format!("{}\n", line.get(indent..).unwrap_or_default())).collect();
    let meant = |text: &str| text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    assert_eq!(meant(&held).trim(), meant(&manifests).trim());
}

#[test]
fn the_shipped_configuration_of_envoy_is_valid() {
    for (file, accepted) in [("envoy/envoy.yaml", true), ("envoy/fallback.yaml", EnvoyFeature::ClusterRefresh.is_supported())] {
        let mut envoy = Command::new(envoy_binary());
        envoy.args(["--mode", "validate", "-c", file]).current_dir(root());
        let output = envoy.env("PAI_SECRET_OPENAI_API_KEY", "key").env("PAI_SECRET_ANTHROPIC_API_KEY", "key").output().unwrap();
        assert_eq!(output.status.success(), accepted, "{file}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test]
async fn the_readmes_commands_work_as_written() {
    let running = Running::start(&[]);
    let mut asked = 0;
    let printed = running.said.lines().map(str::trim).filter(|line| line.starts_with("curl ")).map(str::to_owned);
    for command in blocks("sh").iter().filter(|block| block.starts_with("curl ")).map(|block| running.here(block)).chain(printed) {
        let output = shell(&command.replacen("curl ", "curl --silent --show-error --fail ", 1));
        let answer = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{command}\n{}", String::from_utf8_lossy(&output.stderr));
        let expected = if command.contains("model-providers") {
            "\"usedToday\":"
        } else if command.contains("\"stream\": true") {
            "data: [DONE]"
        } else {
            "\"usage\":{"
        };
        assert!(answer.contains(expected), "{command}\n{answer}");
        asked += 1;
    }
    assert_eq!(asked, 6, "three in the README, three printed");
    let python = installed_clients().join("python/bin/python");
    let [snippet] = &blocks("python")[..] else { panic!("one snippet") };
    let output = Command::new(python).arg("-c").arg(running.here(snippet)).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains(" tokens"), "{said}{}", String::from_utf8_lossy(&output.stderr));

    let port = running.port;
    drop(running);
    let free = || async move { std::net::TcpListener::bind(("127.0.0.1", port)).is_ok().then_some(()) };
    until("the port is free", free).await;
}

#[test]
fn the_demonstration_of_fallback_shows_it() {
    e2e::needs!(ClusterRefresh);
    let running = Running::start(&["--demo", "fallback"]);
    let (transcript, printed) = running.said.split_once("The gateway listens on").unwrap();
    let lines = transcript.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let asked = lines.filter(|words| words.first().is_some_and(|word| word.parse::<u32>().is_ok()));
    let mut asked: Vec<String> = asked.map(|words| [&words[1..3], &words[4..]].concat().join(" ")).collect();
    asked.dedup();
    let steps = [
        "vllm-local 200",
        "anthropic 200 vllm-local=503",
        "anthropic 200 vllm-local=connect",
        "vllm-local 200",
        "anthropic 200 vllm-local=spent",
    ];
    assert_eq!(asked, steps, "{transcript}");

    let commands: Vec<&str> = printed.lines().map(str::trim).filter(|line| line.starts_with("curl ")).collect();
    let answers = commands.iter().map(|command| {
        let output = shell(&command.replacen("curl ", "curl --silent --show-error --fail ", 1));
        assert!(output.status.success(), "{command}\n{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    });
    let expected = ["x-pai-provider: anthropic", "\"usedToday\":", "vllm-local/", "{}"];
    for (answer, expected) in answers.zip(expected) {
        assert!(answer.contains(expected), "{answer}");
    }
    assert_eq!(commands.len(), expected.len());
}

#[test]
fn the_documented_manifests_are_accepted() {
    let example = blocks_of("docs/configuration.md", "yaml").swap_remove(0);
    pai_filter::config::load(example.as_bytes(), &|_| Some("key".to_owned())).unwrap();
    let blocks = blocks_of("docs/callers.md", "yaml");
    let (provider, more) = (&blocks[0], blocks.iter().skip(1));
    let manifests: Vec<&String> = more.filter(|block| block.starts_with("apiVersion")).collect();
    assert_eq!(manifests.len(), 2, "an agent, a gateway");
    for manifest in manifests {
        pai_filter::config::load(format!("{provider}\n---\n{manifest}").as_bytes(), &|_| None).unwrap();
    }
    let operators = blocks.iter().find(|block| block.contains("operators:")).unwrap();
    let gateway = format!("{provider}\n---\napiVersion: pai.io/v1\nkind: Gateway\nmetadata: {{ name: default }}\n{operators}");
    pai_filter::config::load(gateway.as_bytes(), &|_| None).unwrap();
}

#[test]
fn a_listener_that_asks_for_certificates_is_valid_as_documented() {
    let blocks = blocks_of("docs/callers.md", "yaml");
    let socket = blocks.iter().find(|block| block.contains("transport_socket:")).unwrap();
    let directory = std::env::temp_dir().join(format!("pai-listener-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let made = rcgen::generate_simple_self_signed(["gate.test".to_owned()]).unwrap();
    for (file, pem) in
        [("server.pem", made.cert.pem()), ("server.key", made.signing_key.serialize_pem()), ("ca.pem", made.cert.pem())]
    {
        std::fs::write(directory.join(file), pem).unwrap();
    }
    let socket: String = socket.lines().map(|line| format!("          {line}\n")).collect();
    let envoy = read("envoy/envoy.yaml");
    let (before, after) = envoy.split_once("        - filters:\n").unwrap();
    let envoy = format!("{before}        -\n{socket}          filters:\n{after}");
    let file = directory.join("envoy.yaml");
    std::fs::write(&file, envoy.replace("/etc/pai", directory.to_str().unwrap())).unwrap();
    let output = Command::new(envoy_binary()).args(["--mode", "validate", "-c"]).arg(&file).current_dir(root()).output().unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_developer_is_served_as_documented() {
    let [make_key] = &blocks_of("docs/callers.md", "sh")[..] else { panic!("one way to make a key") };
    let made = String::from_utf8(shell(&format!("{make_key}\necho $key")).stdout).unwrap();
    let [hash, key] = made.lines().collect::<Vec<_>>()[..] else { panic!("{made}") };
    let key_of_document = "pak_example-key-for-the-documentation";
    let hashed = String::from_utf8(shell(&format!("printf %s {key_of_document} | sha256sum")).stdout).unwrap();
    let configuration = &blocks_of("docs/callers.md", "yaml")[0];
    assert!(configuration.contains(hashed.split(' ').next().unwrap()), "the hash is of the key that is named");
    let manifests = configuration.replace(hashed.split(' ').next().unwrap(), hash.split(' ').next().unwrap());
    let file = std::env::temp_dir().join(format!("pai-callers-{}.yaml", std::process::id()));
    std::fs::write(&file, manifests).unwrap();
    let running = Running::start(&["--config", file.to_str().unwrap()]);
    std::fs::remove_file(file).unwrap();
    let [client] = &blocks_of("docs/callers.md", "python")[..] else { panic!("one client") };
    let [snippet] = &blocks("python")[..] else { panic!("one snippet") };
    let with_key = |key: &str| {
        let client = client.trim().replace(key_of_document, key);
        let program = snippet.lines().map(|line| match line.starts_with("client = ") {
            true => running.here(&client) + "\n",
            false => running.here(line) + "\n",
        });
        let python = installed_clients().join("python/bin/python");
        Command::new(python).arg("-c").arg(program.collect::<String>()).output().unwrap()
    };
    let output = with_key(key);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains(" tokens"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let output = with_key("pak_another");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("AuthenticationError") && said.contains("401"), "{said}");
}

#[test]
fn help_is_complete_and_mistakes_are_reported() {
    let help = shell("scripts/run --help");
    let said = String::from_utf8_lossy(&help.stdout);
    for option in ["--vllm URL", "--config FILE", "--port N", "--demo NAME"] {
        assert!(help.status.success() && said.contains(option), "{said}");
    }
    for (command, expected) in [
        ("scripts/run --port 0", "not a port"),
        ("scripts/run --config /nowhere", "cannot read /nowhere"),
        ("scripts/run --nonsense", "Usage: scripts/run"),
        ("scripts/run --demo nonsense", "the only one is fallback"),
    ] {
        let output = shell(command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(expected), "{command}: {said}");
    }
}
