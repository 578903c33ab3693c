//! The page as text: its headings, manifests and commands.

const TEXT: &str = include_str!("../../fixtures/page/self-hosted-models-vllm.txt");
const MANIFESTS: &str = include_str!("../../fixtures/page/manifests.yaml");

/// The headings, in the order of the page.
pub const HEADINGS: [&str; 11] = [
    "Self-hosted models (vLLM)",
    "Prerequisites",
    "Setup",
    "Open vLLM (no auth)",
    "Token-gated vLLM",
    "Supported models",
    "Use in an agent",
    "Tips",
    "Token budgets",
    "Expose via the LLM Gateway",
    "Access control",
];

/// The lines below a heading, to the next one.
pub fn section(heading: &str) -> Vec<&'static str> {
    let lines = TEXT.lines().skip_while(move |line| *line != heading).skip(1);
    let section: Vec<_> = lines.take_while(|line| !HEADINGS.contains(line)).collect();
    assert!(
        TEXT.lines().any(|line| line == heading) && section.iter().any(|line| !line.is_empty()) || heading == "Setup",
        "{heading}"
    );
    section
}

/// The commands of a section, as printed. `#` begins a comment or an output.
pub fn commands(heading: &str) -> Vec<String> {
    let mut commands = Vec::new();
    for line in section(heading) {
        if ["pai ", "eval "].iter().any(|start| line.starts_with(start)) {
            commands.push(line.to_owned());
        } else if let Some((_, command)) = line.split_once("Apply with ") {
            commands.push(command.trim_end_matches('.').to_owned());
        }
    }
    commands
}

/// The output that a section shows below a command, without the `# ` of its lines.
pub fn output(heading: &str, command: &str) -> Vec<String> {
    let lines = section(heading).into_iter().skip_while(|line| *line != command).skip(1);
    lines.map_while(|line| line.strip_prefix("# ")).map(str::to_owned).collect()
}

/// The manifests of a section, with their indentation restored.
pub fn manifests(heading: &str) -> Vec<&'static str> {
    let mut before = 0;
    for earlier in HEADINGS.iter().take_while(|earlier| **earlier != heading) {
        before += blocks(earlier).len();
    }
    let count = blocks(heading).len();
    restored().into_iter().skip(before).take(count).collect()
}

/// The blocks of YAML in a section, which end at an empty line.
fn blocks(heading: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut is_inside = false;
    for line in section(heading) {
        if line == "apiVersion: pai.io/v1" || line == "spec:" && !is_inside {
            blocks.push(String::new());
            is_inside = true;
        } else if line.is_empty() {
            is_inside = false;
        }
        if let (true, Some(block)) = (is_inside, blocks.last_mut()) {
            *block += &format!("{line}\n");
        }
    }
    blocks
}

fn restored() -> Vec<&'static str> {
    let (_, manifests) = MANIFESTS.split_once('\n').unwrap();
    manifests.split("---\n").collect()
}

#[test]
fn the_restored_manifests_are_those_of_the_page() {
    let blocks: Vec<String> = HEADINGS.iter().flat_map(|heading| blocks(heading)).collect();
    let flat = |manifest: &&str| manifest.lines().map(|line| format!("{}\n", line.trim_start())).collect::<String>();
    assert_eq!(blocks, restored().iter().map(flat).collect::<Vec<_>>());
}

#[test]
fn all_commands_of_the_page_are_found() {
    let commands: Vec<String> = HEADINGS.iter().flat_map(|heading| commands(heading)).collect();
    let expected = [
        "pai apply -f model-provider.yaml",
        "pai add secret vllm-token --from-literal api-key=YOUR_VLLM_TOKEN",
        "pai get model-providers",
        "pai login https://api.pairun.dev --access-key pak_...",
        "eval $(pai gateway env)",
    ];
    assert_eq!(commands, expected);
    let shown = TEXT.lines().filter(|line| line.contains("pai ") && !line.starts_with('#')).count();
    assert_eq!(shown, expected.len(), "a command of the page is not in this list");
}
