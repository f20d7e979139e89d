//! What the refusals of AWS mean. Only codes are looked at: the SDK's `Debug` prints whole replies.

use std::error::Error;

use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};

use crate::store::StoreError;

/// What a failed call means to whoever asked for `path`.
pub(super) fn refusal<E: ProvideErrorMetadata, R>(path: &str, error: &SdkError<E, R>) -> StoreError {
    let path = path.to_owned();
    let code = match error {
        SdkError::ServiceError(refused) => refused.err().code().unwrap_or("no code"),
        SdkError::TimeoutError(_) => return StoreError::Unreachable { path, reason: "no answer within 10 s".into() },
        SdkError::DispatchFailure(failure) => {
            let failure = failure.as_connector_error();
            return failure
                .map_or(StoreError::Unreachable { path: path.clone(), reason: "no connection".into() }, |failure| {
                    dispatch(path, failure)
                });
        }
        SdkError::ConstructionFailure(_) => {
            return StoreError::Denied { path, reason: "the request cannot be made; is a region set?".into() };
        }
        _ => return StoreError::Unreachable { path, reason: "AWS's answer cannot be read".into() },
    };
    meaning(path, code)
}

fn meaning(path: String, code: &str) -> StoreError {
    let denied = |why: &str| StoreError::Denied { path: path.clone(), reason: format!("{code}: {why}") };
    match code {
        "ResourceNotFoundException" => StoreError::NotFound { path },
        // Our attempt's version is there with another content: it was made on an older state of the secret.
        "ResourceExistsException" => StoreError::Conflict { path },
        "AccessDeniedException" | "AccessDenied" => denied("our role's policy does not allow it"),
        "UnrecognizedClientException" | "InvalidClientTokenId" | "IncompleteSignature" => {
            denied("AWS does not know our access key; was it deleted or disabled?")
        }
        "ExpiredTokenException" | "ExpiredToken" => denied("our AWS session has ended; renew the login of this host"),
        // A clock that is wrong by more than 5 minutes fails like this (FM-30).
        "InvalidSignatureException" | "SignatureDoesNotMatch" | "RequestExpired" | "RequestTimeTooSkewed" => {
            denied("the signature is refused; is the secret key right, and this machine's clock?")
        }
        "DecryptionFailure" | "KMSDisabledException" | "KMSInvalidStateException" | "KMSAccessDeniedException" => {
            denied("KMS does not decrypt the secret; is its key enabled, and may our role use it?")
        }
        "ThrottlingException" | "Throttling" | "TooManyRequestsException" | "RequestLimitExceeded" => {
            StoreError::Throttled { path, retry_after: None }
        }
        "LimitExceededException" => StoreError::Unreachable {
            path,
            reason: format!(
                "{code}: the secret has too many versions; they end after 24 h, or raise `coalesce_seconds`"
            ),
        },
        other => StoreError::Unreachable { path, reason: format!("AWS refuses with {other}") },
    }
}

fn dispatch(path: String, failure: &aws_sdk_secretsmanager::error::ConnectorError) -> StoreError {
    if failure.is_timeout() {
        return StoreError::Unreachable { path, reason: "no answer within 10 s".into() };
    }
    let mut cause: &dyn Error = failure;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let reason: String = cause.to_string().chars().take(160).collect();
    if failure.is_io() {
        return StoreError::Unreachable { path, reason };
    }
    // Not the network: the standard chain brought no credentials.
    let reason = format!(
        "no AWS credentials from the standard chain ({reason}); set a profile, a role or environment variables"
    );
    StoreError::Denied { path, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fm24_fm25_fm29_fm30_codes_mean_what_they_say() {
        let of = |code| meaning("app".into(), code);
        assert!(matches!(of("ResourceNotFoundException"), StoreError::NotFound { .. }));
        assert!(matches!(of("ThrottlingException"), StoreError::Throttled { .. }));
        for ended in ["ExpiredTokenException", "ExpiredToken"] {
            let error = of(ended);
            assert!(matches!(error, StoreError::Denied { .. }) && error.to_string().contains("session has ended"));
        }
        assert!(of("InvalidSignatureException").to_string().contains("clock"));
        assert!(of("DecryptionFailure").to_string().contains("KMS"));
        assert!(matches!(of("InternalServiceError"), StoreError::Unreachable { .. }));
    }
}
