//! `pai delete`.

use std::path::PathBuf;

use super::change::{self, Wait};
use super::get::not_found;
use super::resource::{NAMES, Resource, Selection};
use super::{Outcome, Shared};
use crate::directory::GatewayDirectory;
use crate::failure::Failure;
use crate::manifest::{Kind, Manifest, ManifestSet, read_all};
use crate::output;

/// Delete manifests and secrets
///
/// Refuses to delete what other manifests refer to. Requests in progress end as they began.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pai delete access-key alice-laptop
  pai delete agent researcher writer
  pai delete -f agents.yaml")]
pub struct Args {
    #[arg(value_name = "KIND NAME", num_args = 1.., required_unless_present = "files", help = format!("What to delete: {NAMES}"))]
    what: Vec<String>,
    /// Delete the manifests of this file
    #[arg(short = 'f', long = "filename", value_name = "FILE", conflicts_with = "what")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    wait: Wait,
}

impl Args {
    /// Runs the command.
    pub fn run(self, shared: &Shared) -> Outcome {
        let directory = shared.directory()?;
        if !self.files.is_empty() {
            let documents = read_all(&self.files)?;
            let manifests = documents.into_iter().filter_map(|document| Manifest::from_value(document.value, 0));
            return self.delete(&directory, manifests.map(|manifest| (manifest.kind, manifest.name)).collect());
        }
        let Selection { resource, names } = Selection::parse(&self.what)?;
        if names.is_empty() {
            return Err(Failure::usage("name what to delete, such as `pai delete agent researcher`"));
        }
        match resource {
            Resource::Manifests(kind) => self.delete(&directory, names.into_iter().map(|name| (kind, name)).collect()),
            Resource::Secrets => delete_secrets(&directory, &names),
        }
    }

    fn delete(&self, directory: &GatewayDirectory, targets: Vec<(Kind, String)>) -> Outcome {
        let lock = directory.lock()?;
        let mut set = directory.manifests()?;
        let mut ids = Vec::new();
        for (kind, name) in targets {
            let manifest = set.remove(kind, &name).ok_or_else(|| not_found(kind.resource(), &name))?;
            ids.push(manifest.id());
        }
        check_references(&set, &ids)?;
        change::commit(directory, &lock, set, &self.wait)?;
        for id in ids {
            output::print(&format!("{id} deleted\n"))?;
        }
        Ok(())
    }
}

fn check_references(set: &ManifestSet, ids: &[String]) -> Outcome {
    set.validate().map_err(|failure| {
        let what = ids.join(", ");
        Failure::refused(format!(
            "{what}: not deleted, as other manifests refer to it. Change these first, or delete them too\n{failure}"
        ))
    })
}

fn delete_secrets(directory: &GatewayDirectory, names: &[String]) -> Outcome {
    let _lock = directory.lock()?;
    let set = directory.manifests()?;
    for name in names {
        let refers = |provider: &&Manifest| provider.secret_reference().is_some_and(|reference| reference.name == *name);
        if let Some(user) = set.of_kind(Kind::ModelProvider).find(refers) {
            let reason = "refers to it in spec.apiKeySecretRef. Change or delete that first";
            return Err(Failure::refused(format!("secret/{name}: not deleted, as ModelProvider {} {reason}", user.name)));
        }
        if !directory.secrets().remove(name)? {
            return Err(not_found("secret", name));
        }
        output::print(&format!("secret/{name} deleted\n"))?;
    }
    Ok(())
}
