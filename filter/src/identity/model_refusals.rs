//! What a client is answered that names a model which it may not use.

use crate::http::refusal::{Case, Refusal, printable};
use crate::identity::model_access::{DenialReason, ModelAccess};
use crate::policy::model_resolution::UnresolvedModel;

/// No such model, as far as this caller can see.
pub fn not_found(access: &ModelAccess<'_>, name: &str) -> Refusal {
    let suggestions = access.suggestions();
    let hint = if suggestions.is_empty() {
        "Name a model that you may use as `<provider>/<model-id>`.".to_owned()
    } else {
        format!("You may use, for example: {}.", suggestions.join(", "))
    };
    Refusal::new(Case::ModelNotFound, format!("The model `{}` does not exist. {hint}", printable(name))).about(Some("model"))
}

/// Why a name names no candidate, for its sender.
pub fn unresolved(access: &ModelAccess<'_>, name: &str, unresolved: UnresolvedModel) -> Refusal {
    match unresolved {
        UnresolvedModel::NotFound => not_found(access, name),
        UnresolvedModel::Ambiguous => {
            let hint = access.suggestions().join(", ");
            let why = format!("More than one provider serves `{name}`. Name one as `<provider>/<model-id>`, for example: {hint}.");
            Refusal::new(Case::ModelNotFound, why).about(Some("model"))
        }
        UnresolvedModel::NotAllowed(provider, barrier) => {
            let provider = access.provider_name(provider);
            let why = match barrier {
                DenialReason::NotAllowedByProvider => format!("is not allowed on provider `{provider}`"),
                DenialReason::NotExternal => {
                    format!("cannot be used with an access key: provider `{provider}` has no `externalAccess`")
                }
                DenialReason::NotAllowedForKey => "is not in `spec.models` of this access key".to_owned(),
                DenialReason::NotAllowedForAgent => "is not in `spec.models` of this agent".to_owned(),
            };
            let why = format!("The model `{name}` {why}. Ask the operator, or use another model.");
            Refusal::new(Case::ModelNotAllowed, why).about(Some("model"))
        }
    }
}
