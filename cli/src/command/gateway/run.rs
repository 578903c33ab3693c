//! `pai gateway run`.

use std::fs::{self, File, TryLockError};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::demo;
use crate::command::{Outcome, Shared, change};
use crate::directory::{Configuration, GatewayDirectory};
use crate::failure::Failure;
use crate::gateway::{EnvoyBinary, EnvoyProcess, Finding, Rendering, Running, Settings, Start, max_request_bytes, probe};
use crate::manifest::{Kind, Manifest, ManifestSet};
use crate::module;
use crate::output::{self, progress::Progress, style};
use crate::render::{self, BootstrapOptions};

/// How long Envoy may take to start. Compiling the module takes most of it.
const START: Duration = Duration::from_secs(60);
/// How long requests in progress may take after Ctrl-C.
const DRAIN: Duration = Duration::from_secs(30);
/// The time between two looks.
const INTERVAL: Duration = Duration::from_millis(20);

/// Run a gateway in the foreground
///
/// Starts Envoy with the filter and with the manifests of the gateway's directory. `pai apply` changes them while it runs. Ctrl-C ends it
/// when the requests in progress have ended; a second Ctrl-C ends it at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pai gateway run                                  # then: pai apply -f model-provider.yaml
  pai gateway run --demo                           # with a small stand-in for vLLM
  pai gateway run --listen 0.0.0.0:8443 --tls-cert tls.crt --tls-key tls.key")]
pub struct Args {
    /// Address for clients
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Address of Envoy's admin port, which has metrics, and can stop Envoy: loopback only
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9901")]
    admin: SocketAddr,
    /// Certificate for clients, in PEM; a replaced file is used at once
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Envoy to run; by default the one beside this program, in PATH, or in the cache
    #[arg(long, value_name = "PATH")]
    envoy: Option<PathBuf>,
    /// Worker threads; by default one for each core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    concurrency: Option<u32>,
    /// Start a small stand-in for vLLM, and use it as the provider vllm-local
    #[arg(long, value_name = "NAME", num_args = 0..=1, require_equals = false, default_missing_value = "chat")]
    demo: Option<demo::Scene>,
}

/// Counts the signals to end.
struct Signals(Arc<AtomicUsize>);

impl Args {
    /// Runs the command.
    pub fn run(mut self, shared: &Shared) -> Outcome {
        self.choose_port()?;
        let directory = shared.directory()?;
        let progress = Progress::start("looking for Envoy");
        let envoy = EnvoyBinary::find(self.envoy.as_deref())?;
        progress.next("preparing the configuration");
        let _running = claim(&directory)?;
        let demo = self.demo.map(demo::start).transpose()?;
        let manifests = self.prepare(&directory, &envoy, demo.as_ref())?;
        let signals = Signals::install()?;
        progress.next("starting Envoy");
        let start = Start { envoy: &envoy, directory: &directory, concurrency: self.concurrency };
        let mut process = start.spawn()?;
        let running = self.ready(&mut process, &directory, &signals)?;
        progress.next("asking the providers");
        let findings = providers(&directory, &manifests);
        progress.end();
        self.announce(&running, &manifests, &findings, shared);
        supervise(&mut process, &running, &signals, self.listen)
    }

    /// Replaces port 0 by a free one, which is part of the URL that other commands print.
    fn choose_port(&mut self) -> anyhow::Result<()> {
        if self.listen.port() == 0 {
            let free = TcpListener::bind(self.listen).with_context(|| format!("{} cannot be bound", self.listen))?;
            self.listen = free.local_addr().context("the free port is unknown")?;
        }
        Ok(())
    }

    /// Writes everything that Envoy reads. Returns the manifests in force.
    fn prepare(
        &self,
        directory: &GatewayDirectory,
        envoy: &EnvoyBinary,
        demo: Option<&demo::Demo>,
    ) -> Result<ManifestSet, Failure> {
        let _lock = directory.lock()?;
        let mut manifests = directory.manifests()?;
        if let Some(demo) = demo {
            manifests = demo.add_to(&manifests)?;
        }
        change::check_secrets(directory, &manifests)?;
        directory.secrets().render()?;
        directory.write_module(&module::bytes()?)?;
        let version = envoy.version.parse().map_err(|reason| Failure::refused(format!("{}: {reason}", envoy.path.display())))?;
        let files = Rendering::for_envoy(directory, version).files(&manifests)?;
        let configuration = Configuration { manifests: manifests.clone(), files };
        let current = directory.current()?;
        if current.map(|version| directory.read(version)).transpose()?.as_ref() != Some(&configuration) {
            let version = directory.write(&configuration)?;
            directory.switch_to(version)?;
            directory.clean_up(version);
        }
        self.write_bootstrap(directory, envoy, &manifests)?;
        Ok(manifests)
    }

    fn write_bootstrap(&self, directory: &GatewayDirectory, envoy: &EnvoyBinary, manifests: &ManifestSet) -> Result<(), Failure> {
        let tls = self.tls_cert.as_deref().zip(self.tls_key.as_deref()).map(absolute).transpose()?;
        if let Some((certificate, key)) = &tls {
            directory.write_certificate(certificate, key)?;
        }
        let max_request_bytes = max_request_bytes(manifests);
        let mut bootstrap = render::bootstrap(&BootstrapOptions {
            directory: directory.root().to_owned(),
            listen: self.listen,
            admin: self.admin,
            control: directory.control_socket(),
            tls: tls.is_some(),
            max_request_bytes,
            node: "pai".to_owned(),
        })?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", self.listen);
        Settings { url, max_request_bytes, envoy: envoy.version.clone() }.write(&mut bootstrap);
        Ok(directory.write_bootstrap(&bootstrap)?)
    }

    /// Waits until Envoy serves, or says why it does not.
    fn ready(&self, process: &mut EnvoyProcess, directory: &GatewayDirectory, signals: &Signals) -> Result<Running, Failure> {
        let deadline = Instant::now() + START;
        loop {
            if process.ended().is_some() {
                return Err(process.failure(&self.listen.to_string()));
            }
            if let Some(reason) = directory.last_refusal() {
                return Err(Failure::refused(format!("Envoy refused the configuration: {reason}")));
            }
            if signals.count() > 0 {
                return Err(Failure::refused("interrupted"));
            }
            if let Some(running) = Running::find(directory)
                && running.admin.listeners().is_ok_and(|listeners| !listeners.is_empty())
            {
                return Ok(running);
            }
            if Instant::now() >= deadline {
                return Err(Failure::refused(format!(
                    "Envoy does not answer after {} s; its log is {}",
                    START.as_secs(),
                    directory.log().display()
                )));
            }
            sleep(INTERVAL);
        }
    }

    fn announce(&self, running: &Running, manifests: &ManifestSet, findings: &[(String, Finding)], shared: &Shared) {
        let url = &running.settings.url;
        output::note(&format!("The gateway listens on {url}. Press Ctrl-C to stop it."));
        for (name, finding) in findings {
            let mark = if finding.is_good { "  ".to_owned() } else { format!("{} ", style::warning("!")) };
            output::note(&format!("{mark}{name}: {}", finding.text));
        }
        output::note("");
        for line in next_steps(url, manifests, findings, &shared.dir_option()) {
            output::note(&format!("  {line}"));
        }
        output::note(&format!("\nMetrics: {}/stats/prometheus", running.admin.url()));
    }
}

fn absolute((certificate, key): (&Path, &Path)) -> Result<(PathBuf, PathBuf), Failure> {
    let readable = |path: &Path| {
        fs::File::open(path).and_then(|_| std::path::absolute(path)).with_context(|| format!("{} cannot be read", path.display()))
    };
    Ok((readable(certificate)?, readable(key)?))
}

/// Proves that no other process runs the gateway of this directory, as long as the file is open.
fn claim(directory: &GatewayDirectory) -> Result<File, Failure> {
    directory.create()?;
    let path = directory.root().join("run.lock");
    let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = file.with_context(|| format!("{} cannot be locked", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let root = directory.root().display();
            Err(Failure::refused(format!(
                "a gateway runs in {root} already; name another directory with --dir to run a second one"
            )))
        }
        Err(TryLockError::Error(error)) => {
            Err(anyhow::Error::new(error).context(format!("{} cannot be locked", path.display())).into())
        }
    }
}

fn providers(directory: &GatewayDirectory, manifests: &ManifestSet) -> Vec<(String, Finding)> {
    let secrets = directory.secrets();
    let probes = manifests.of_kind(Kind::ModelProvider).map(|provider| {
        let key = provider.secret_reference().and_then(|reference| secrets.value(&reference));
        let provider = provider.clone();
        std::thread::spawn(move || (provider.name.clone(), probe(&provider, key.as_deref())))
    });
    // All requests are sent before the first answer is awaited.
    let probes: Vec<_> = probes.collect();
    probes.into_iter().filter_map(|probe| probe.join().ok()).collect()
}

/// Returns what a user may do next.
fn next_steps(url: &str, manifests: &ManifestSet, findings: &[(String, Finding)], dir: &str) -> Vec<String> {
    if manifests.of_kind(Kind::ModelProvider).next().is_none() {
        return vec![
            format!("pai{dir} apply -f model-provider.yaml    # there is no ModelProvider yet: every model is answered with 404"),
            format!("pai{dir} get model-providers"),
            format!("curl {url}/health"),
        ];
    }
    let caller = Caller::find(manifests);
    let mut steps = Vec::new();
    if let Caller::Key = caller {
        steps.push("export PAI_ACCESS_KEY=pak_...    # as printed by pai create access-key".to_owned());
    }
    if let Some(model) = model_of(manifests, findings, &caller) {
        let body = format!("{{\"model\": \"{model}\", \"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}");
        let header = caller.header();
        steps.push(format!("curl {url}/v1/chat/completions {header}-H 'content-type: application/json' -d '{body}'"));
    }
    steps.push(format!("pai{dir} get model-providers"));
    if let Caller::Anonymous = caller {
        steps.push(format!("eval $(pai{dir} gateway env)    # for OpenAI clients in this shell"));
    }
    steps
}

/// Who the printed commands call as.
enum Caller {
    Anonymous,
    /// With an access key.
    Key,
    /// With this header and identity, as this agent.
    Agent {
        header: String,
        identity: String,
        models: Vec<String>,
    },
}

impl Caller {
    /// Returns a caller whom the gateway admits.
    fn find(manifests: &ManifestSet) -> Self {
        let agent = || {
            let header = manifests.of_kind(Kind::Gateway).next()?.spec_text("identityHeader").to_owned();
            let agent = manifests.of_kind(Kind::Agent).next()?;
            let identity = agent.spec_list("identities").into_iter().find(|identity| !identity.ends_with('*'))?;
            Some(Self::Agent { header, identity, models: agent.spec_list("models") }).filter(|_| !manifests.is_open())
        };
        match agent() {
            Some(Self::Agent { header, identity, models }) if !header.is_empty() => Self::Agent { header, identity, models },
            _ if manifests.of_kind(Kind::AccessKey).next().is_some() => Self::Key,
            _ => Self::Anonymous,
        }
    }

    fn header(&self) -> String {
        match self {
            Self::Anonymous => String::new(),
            Self::Key => "-H \"authorization: Bearer $PAI_ACCESS_KEY\" ".to_owned(),
            Self::Agent { header, identity, .. } => format!("-H '{header}: {identity}' "),
        }
    }
}

/// Returns a model for the printed command: the agent's first, or one that is allowed, or one that a server lists.
fn model_of(manifests: &ManifestSet, findings: &[(String, Finding)], caller: &Caller) -> Option<String> {
    if let Caller::Agent { models, .. } = caller {
        return models.first().cloned();
    }
    let usable = |provider: &&Manifest| !matches!(caller, Caller::Key) || provider.is_external();
    manifests.of_kind(Kind::ModelProvider).filter(usable).find_map(|provider| {
        let allowed = provider.spec_list("allowedModels").into_iter().find(|model| !model.ends_with('*'));
        let listed =
            || findings.iter().find(|(name, _)| *name == provider.name).and_then(|(_, finding)| finding.models.first().cloned());
        Some(format!("{}/{}", provider.name, allowed.or_else(listed)?))
    })
}

/// Waits for the end: of Envoy, which is an error, or by a signal.
fn supervise(process: &mut EnvoyProcess, running: &Running, signals: &Signals, listen: SocketAddr) -> Outcome {
    while signals.count() == 0 {
        if process.ended().is_some() {
            return Err(process.failure(&listen.to_string()));
        }
        sleep(INTERVAL);
    }
    running.admin.drain();
    let deadline = Instant::now() + DRAIN;
    let mut is_told = false;
    while signals.count() == 1 && process.ended().is_none() && Instant::now() < deadline {
        match running.admin.active_requests() {
            Ok(0) | Err(_) => break,
            Ok(count) if !is_told => {
                output::note(&format!("waiting for {count} requests in progress; Ctrl-C again ends them"));
                is_told = true;
            }
            Ok(_) => {}
        }
        sleep(INTERVAL);
    }
    process.end();
    Ok(())
}

// === impl Signals ===

impl Signals {
    fn install() -> anyhow::Result<Self> {
        let count = Arc::new(AtomicUsize::new(0));
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).context("signals cannot be handled")?;
        let counter = Arc::clone(&count);
        std::thread::spawn(move || {
            for _ in signals.forever() {
                counter.fetch_add(1, Ordering::SeqCst);
            }
        });
        Ok(Self(count))
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}
