//! Runs what the README, the documentation and the shipped configuration contain, as written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use e2e::harness::{EnvoyFeature, envoy_binary, installed_clients, until, within};

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
        Self::start_in(options, &[])
    }

    /// Starts it with these variables in its environment.
    fn start_in(options: &[&str], variables: &[(&str, &str)]) -> Self {
        // The port is free until another process binds it; the script reports it if it is taken.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let port_option = port.to_string();
        let mut command = Command::new("bash");
        // What is said to people is on stderr.
        command.args(["-c", "exec scripts/run \"$@\" 2>&1", "scripts/run", "--port", &port_option]).args(options);
        command.envs(variables.iter().copied());
        command.current_dir(root()).stdout(Stdio::piped());
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

    /// Returns a documented command with this gateway's ports.
    fn here(&self, command: &str) -> String {
        let (_, admin) = self.said.split_once("Metrics: http://").unwrap();
        let (admin, _) = admin.split_once('/').unwrap();
        command.replace("127.0.0.1:8080", &format!("127.0.0.1:{}", self.port)).replace("127.0.0.1:9901", admin)
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
fn the_shipped_configuration_of_envoy_is_valid() {
    for (file, accepted) in [("envoy/envoy.yaml", true), ("envoy/fallback.yaml", EnvoyFeature::ClusterRefresh.is_supported())] {
        let mut envoy = Command::new(envoy_binary());
        envoy.args(["--mode", "validate", "-c", file]).current_dir(root());
        let output = envoy.env("PAI_SECRET_OPENAI_API_KEY", "key").env("PAI_SECRET_ANTHROPIC_API_KEY", "key").output().unwrap();
        assert_eq!(output.status.success(), accepted, "{file}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// What a documented `curl` command must print.
fn expected(command: &str) -> &'static str {
    const ANSWERS: [(&str, &str); 5] = [
        ("model-providers", "\"usedToday\":"),
        ("\"stream\": true", "data: [DONE]"),
        ("/v1/chat/completions", "\"usage\":{"),
        ("/v1/models", "vllm-local"),
        ("http://127.0.0.1:9901/", ""),
    ];
    ANSWERS.iter().find(|(part, _)| command.contains(part)).unwrap_or_else(|| panic!("what does this print?\n{command}")).1
}

#[tokio::test]
async fn the_readmes_commands_work_as_written() {
    let running = Running::start(&[]);
    let mut asked = 0;
    let printed = running.said.lines().map(str::trim).filter(|line| line.starts_with("curl ")).map(str::to_owned);
    let documented = ["README.md", "docs/quickstart.md"].map(|page| blocks_of(page, "sh")).concat();
    let (refused, documented): (Vec<_>, Vec<_>) = documented
        .into_iter()
        .filter(|block| block.starts_with("curl ") && !block.contains("pak_"))
        .partition(|block| block.contains("another-model"));
    for command in documented.into_iter().chain(printed) {
        let output = shell(&running.here(&command).replacen("curl ", "curl --silent --show-error --fail ", 1));
        let answer = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{command}\n{}", String::from_utf8_lossy(&output.stderr));
        let expected = expected(&command.replace(&format!("127.0.0.1:{}", running.port), "127.0.0.1:8080"));
        assert!(answer.contains(expected), "{command}\n{answer}");
        asked += 1;
    }
    assert_eq!(asked, 6, "one in the README, four in the quickstart, one printed");
    let [refused] = &refused[..] else { panic!("one refusal") };
    let answer = String::from_utf8(shell(&running.here(refused)).stdout).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("\"code\":\"model_not_allowed\""), "{answer}");

    let python = installed_clients().join("python/bin/python");
    let [snippet] = &blocks_of("docs/quickstart.md", "python")[..] else { panic!("one snippet") };
    let output = Command::new(python).arg("-c").arg(running.here(snippet)).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains(" tokens"), "{said}{}", String::from_utf8_lossy(&output.stderr));

    // Those that look into a gateway at work.
    let mut looked = 0;
    for page in ["docs/troubleshooting.md", "docs/metrics.md"] {
        for command in blocks_of(page, "sh") {
            let output = shell(&format!("set -o pipefail\n{}", running.here(&command)));
            let shown = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{page}: {command}\n{shown}{}", String::from_utf8_lossy(&output.stderr));
            looked += 1;
        }
    }
    assert_eq!(looked, 9);

    let port = running.port;
    drop(running);
    let free = || async move { std::net::TcpListener::bind(("127.0.0.1", port)).is_ok().then_some(()) };
    until("the port is free", free).await;
}

/// The quickstart's own manifests: with its key a request is answered, without it is not.
#[test]
fn the_quickstarts_manifests_work_as_written() {
    let [manifests] = &blocks_of("docs/quickstart.md", "yaml")[..] else { panic!("one file of manifests") };
    let file = std::env::temp_dir().join(format!("pai-quickstart-{}.yaml", std::process::id()));
    let standin = Standin::start(&[]);
    std::fs::write(&file, standin.behind(manifests)).unwrap();
    let running = Running::start(&["--config", file.to_str().unwrap()]);
    std::fs::remove_file(file).unwrap();
    let commands = blocks_of("docs/quickstart.md", "sh");
    let with_key = running.here(commands.iter().find(|block| block.contains("pak_")).unwrap());
    let answer = String::from_utf8(shell(&with_key).stdout).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("x-ratelimit-limit-tokens: 200000"), "{answer}");
    let without: String = with_key.lines().filter(|line| !line.contains("pak_")).map(|line| format!("{line}\n")).collect();
    let answer = String::from_utf8(shell(&without).stdout).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

/// In front of a server that requires a key, as the quickstart has it for a vLLM of one's own.
#[test]
fn a_server_with_a_key_works_as_written() {
    let standin = Standin::start(&["--api-key", "KEY"]);
    let running =
        Running::start_in(&["--vllm", &format!("http://127.0.0.1:{}/v1", standin.port)], &[("PAI_SECRET_VLLM_API_KEY", "KEY")]);
    let [chat] = &blocks("sh").into_iter().filter(|block| block.starts_with("curl ")).collect::<Vec<_>>()[..] else {
        panic!("one")
    };
    let answer = String::from_utf8(shell(&running.here(chat)).stdout).unwrap();
    assert!(answer.contains("\"usage\":{"), "{answer}");
}

/// A stand-in for vLLM, until dropped.
struct Standin {
    process: Child,
    port: u16,
}

impl Standin {
    fn start(options: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pai-standin"));
        let mut process = command.args(["--port", "0"]).args(options).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.as_mut().unwrap()).lines().map(Result::unwrap);
        let line = lines.find(|line| line.contains("listens on")).unwrap();
        let (_, port) = line.trim_end_matches("/v1").rsplit_once(':').unwrap_or_else(|| panic!("{line}"));
        Self { port: port.parse().unwrap_or_else(|_| panic!("{line}")), process }
    }

    /// Returns documented manifests with this server as the provider.
    fn behind(&self, manifests: &str) -> String {
        manifests.replace("127.0.0.1:8000", &format!("127.0.0.1:{}", self.port))
    }
}

impl Drop for Standin {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An Envoy that is set up as `docs/operate.md` says, in a directory of its own in the place of `/etc/pai`, until dropped.
struct Operated {
    envoy: Child,
    directory: PathBuf,
    port: u16,
    admin: u16,
}

/// What `/pai/v1/model-providers` says of the provider.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    since: String,
    used: u64,
    cap: u64,
}

impl Operated {
    fn start(standin: &Standin) -> Self {
        let directory = std::env::temp_dir().join(format!("pai-operate-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let [port, admin] = [(), ()].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let [port, admin] = [port, admin].map(|listener| listener.local_addr().unwrap().port());
        let blocks = blocks_of("docs/operate.md", "yaml");
        let [discovered, filter, ..] = &blocks[..] else { panic!("the filter as discovered, and what it is") };
        let shipped = read("envoy/envoy.yaml");
        let (before, pai) = shipped.split_once("                  - name: pai\n").unwrap();
        let (_, router) = pai.split_once("                  - name: envoy.filters.http.router\n").unwrap();
        let discovered: String = discovered.lines().map(|line| format!("                  {line}\n")).collect();
        let bootstrap = format!("{before}{discovered}                  - name: envoy.filters.http.router\n{router}")
            .replace("0.0.0.0, port_value: 8080", &format!("127.0.0.1, port_value: {port}"))
            .replace("port_value: 9901", &format!("port_value: {admin}"))
            .replace("port_value: 8000", &format!("port_value: {}", standin.port));
        let here = |text: &str| text.replace("/etc/pai", directory.to_str().unwrap());
        std::fs::write(directory.join("envoy.yaml"), here(&bootstrap)).unwrap();
        std::fs::write(directory.join("filter.yaml"), here(filter)).unwrap();
        let copied = shell(&here(&operation("pai_filter-1.wasm", "cp ")));
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        let mut envoy = Command::new(envoy_binary());
        envoy.arg("-c").arg(directory.join("envoy.yaml")).args(["--service-node", "pai", "--service-cluster", "pai"]);
        envoy.args(["--disable-hot-restart", "--concurrency", "2", "--log-level", "off"]).stdout(Stdio::null());
        Self { envoy: envoy.spawn().unwrap(), directory, port, admin }
    }

    /// Runs a command of the page, here.
    fn run(&self, command: &str) -> String {
        let command = command
            .replace("/etc/pai", self.directory.to_str().unwrap())
            .replace("127.0.0.1:8080", &format!("127.0.0.1:{}", self.port))
            .replace("127.0.0.1:9901", &format!("127.0.0.1:{}", self.admin));
        let output = shell(&command);
        assert!(output.status.success(), "{command}\n{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Replaces the filter's file, as the page does it.
    fn replace(&self, from: &str, to: &str) {
        let step = operation("pai_filter-2.wasm/", "sed ");
        let [sed, mv] = step.lines().collect::<Vec<_>>()[..] else { panic!("two commands: {step}") };
        let (_, files) = sed.split_once("/' ").unwrap();
        self.run(&format!("sed 's/{from}/{to}/' {files}\n{mv}"));
    }

    fn stat(&self, name: &str) -> u64 {
        let stats = self.run(&format!("curl --silent 'http://127.0.0.1:9901/stats?filter={name}'"));
        let values = stats.lines().filter_map(|line| line.split_once(": ")).filter(|(found, _)| found.ends_with(name));
        values.map(|(_, value)| value.parse::<u64>().unwrap()).sum()
    }

    fn counts(&self) -> Option<Counts> {
        let command = format!("curl --silent --max-time 5 http://127.0.0.1:{}/pai/v1/model-providers", self.port);
        let answer: serde_json::Value = serde_json::from_slice(&shell(&command).stdout).ok()?;
        let item = &answer["items"][0];
        Some(Counts {
            since: answer["ledgerSince"].as_str()?.to_owned(),
            used: item["usedToday"].as_u64()?,
            cap: item["maxTokensPerDay"].as_u64()?,
        })
    }

    /// Sends a chat, and returns the counts after it is settled.
    async fn chat(&self) -> Counts {
        let before = self.counts().unwrap().used;
        let [chat] = &blocks("sh").into_iter().filter(|block| block.starts_with("curl ")).collect::<Vec<_>>()[..] else {
            panic!("one")
        };
        assert!(self.run(chat).contains("\"usage\":{"));
        until("the chat is settled", async || self.counts().filter(|counts| counts.used > before)).await
    }

    /// Waits until the filter has been configured anew, which takes as long as it takes to compile the module.
    async fn reconfigured(&self, times: u64) {
        let done = async || (self.stat("http_filter.pai.config_reload") >= times).then_some(());
        within(Duration::from_secs(60), "the filter is configured anew", done).await;
    }
}

impl Drop for Operated {
    fn drop(&mut self) {
        let _ = self.envoy.kill();
        let _ = self.envoy.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Returns the one block of commands in `docs/operate.md` that begins with `command` and contains `part`.
fn operation(part: &str, command: &str) -> String {
    let blocks = blocks_of("docs/operate.md", "sh");
    let found: Vec<&String> = blocks.iter().filter(|block| block.starts_with(command) && block.contains(part)).collect();
    assert!(!found.is_empty(), "docs/operate.md has no {command}… {part}");
    found[0].clone()
}

#[tokio::test]
async fn a_reload_an_upgrade_and_a_roll_back_keep_the_counts() {
    let standin = Standin::start(&["--token-interval", "20ms"]);
    let gate = Operated::start(&standin);
    within(Duration::from_secs(60), "Envoy serves", async || gate.counts()).await;
    let first = gate.chat().await;
    assert_eq!(first.cap, 50_000_000);
    let reloads = gate.stat("http_filter.pai.config_reload");

    // A reload is in force for the next request, and keeps the counts.
    gate.run(&operation("maxTokensPerDay", "sed "));
    gate.reconfigured(reloads + 1).await;
    let reloaded = until("the cap is lower", async || gate.counts().filter(|counts| counts.cap == 40_000_000)).await;
    assert_eq!(reloaded, Counts { cap: 40_000_000, since: first.since.clone(), used: first.used });
    let stats = gate.run(&operation("update_", "curl "));
    assert!(stats.contains("update_success: 2") && stats.contains("update_rejected: 0"), "{stats}");

    // A wrong one is rejected, which `--mode validate` does not see. The one before stays in force.
    gate.replace("maxTokensPerDay", "maxTokensPerDai");
    until("it is rejected", async || (gate.stat("http_filter.pai.update_rejected") == 1).then_some(())).await;
    let path = format!("PATH={}:$PATH", envoy_binary().parent().unwrap().display());
    let validate = operation("--mode validate", "envoy ");
    gate.run(&format!("{path} {validate}"));
    gate.run(&format!(
        "{path} {}",
        validate.replace("envoy/envoy.yaml", "/etc/pai/envoy.yaml --service-node pai --service-cluster pai")
    ));
    let after = gate.chat().await;
    assert_eq!((&after.since, after.cap), (&reloaded.since, 40_000_000));
    gate.replace("maxTokensPerDai", "maxTokensPerDay");

    // A new module takes over during a stream.
    gate.run(&operation("pai_filter-2.wasm", "cp "));
    let second = gate.directory.join("pai_filter-2.wasm");
    // Another build for Envoy: it has one more custom section, without content.
    let module = [std::fs::read(&second).unwrap(), b"\x00\x02\x01x".to_vec()].concat();
    std::fs::write(&second, module).unwrap();
    let stream = blocks_of("docs/quickstart.md", "sh").into_iter().find(|block| block.contains("\"stream\": true")).unwrap();
    let stream = stream.replace("curl ", "curl --silent ").replace("127.0.0.1:8080", &format!("127.0.0.1:{}", gate.port));
    let stream = Command::new("bash").arg("-c").arg(stream).stdout(Stdio::piped()).spawn().unwrap();
    let (machines, reloads) = (gate.stat("wasm.runtime.v8.created"), gate.stat("http_filter.pai.config_reload"));
    gate.run(&operation("pai_filter-2.wasm/", "sed "));
    gate.reconfigured(reloads + 1).await;
    assert!(gate.stat("wasm.runtime.v8.created") >= machines + 2, "a VM for each worker");
    let output = stream.wait_with_output().unwrap();
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("[DONE]"), "the stream ends as it should");
    let upgraded = gate.chat().await;
    assert_eq!(upgraded.since, first.since);
    assert!(upgraded.used > after.used, "the stream and the chat count");

    // Back.
    let back = blocks_of("docs/operate.md", "sh").into_iter().find(|block| block.starts_with("sed 's/pai_filter-2")).unwrap();
    gate.run(&back);
    gate.reconfigured(reloads + 2).await;
    let counts = gate.chat().await;
    assert_eq!(counts.since, first.since);
    assert!(counts.used > upgraded.used);

    // Another `vm_id` is another ledger; the old one is gone when its last VM is.
    gate.replace("vm_id: pai", "vm_id: pai2");
    gate.reconfigured(reloads + 3).await;
    within(Duration::from_secs(60), "counts begin at zero", async || gate.counts().filter(|counts| counts.used == 0)).await;
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
        "anthropic 200 vllm-local=exhausted",
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
    let standin = Standin::start(&[]);
    std::fs::write(&file, standin.behind(&manifests)).unwrap();
    let running = Running::start(&["--config", file.to_str().unwrap()]);
    std::fs::remove_file(file).unwrap();
    let [client] = &blocks_of("docs/callers.md", "python")[..] else { panic!("one client") };
    let [snippet] = &blocks_of("docs/quickstart.md", "python")[..] else { panic!("one snippet") };
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
