//! Refusals of requests that name a model which the caller may not use.

use crate::http::refusal::{Case, Refusal, printable};
use crate::identity::model_access::{DenialReason, ModelAccess};
use crate::policy::model_resolution::UnresolvedModel;

/// No such model, as far as this caller can see.
pub fn not_found(access: &ModelAccess<'_>, name: &str) -> Refusal {
    let suggestions = access.suggestions();
    let hint = if access.policy().providers.is_empty() {
        "This gateway has no ModelProvider yet. The operator adds one with `pai apply -f FILE`.".to_owned()
    } else if suggestions.is_empty() {
        "Name a model that you may use as `<provider>/<model-id>`.".to_owned()
    } else {
        format!("You may use, for example: {}.", suggestions.join(", "))
    };
    Refusal::new(Case::ModelNotFound, format!("The model `{}` does not exist. {hint}", printable(name))).about(Some("model"))
}

/// Returns the refusal for a name that does not resolve.
pub fn unresolved(access: &ModelAccess<'_>, name: &str, unresolved: UnresolvedModel) -> Refusal {
    match unresolved {
        UnresolvedModel::NotFound => not_found(access, name),
        UnresolvedModel::Ambiguous => {
            let hint = access.suggestions().join(", ");
            let reason =
                format!("More than one provider serves `{name}`. Name one as `<provider>/<model-id>`, for example: {hint}.");
            Refusal::new(Case::ModelNotFound, reason).about(Some("model"))
        }
        UnresolvedModel::NotAllowed(provider, denial) => {
            let provider = access.provider_name(provider);
            let reason = match denial {
                DenialReason::NotAllowedByProvider => format!("is not allowed on provider `{provider}`"),
                DenialReason::NotExternal => {
                    format!("cannot be used with an access key: provider `{provider}` has no `externalAccess`")
                }
                DenialReason::NotAllowedForKey => "is not in `spec.models` of this access key".to_owned(),
                DenialReason::NotAllowedForAgent => "is not in `spec.models` of this agent".to_owned(),
            };
            let reason = format!("The model `{name}` {reason}. Ask the operator, or use another model.");
            Refusal::new(Case::ModelNotAllowed, reason).about(Some("model"))
        }
    }
}
