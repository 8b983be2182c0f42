//! One call of a function of the stack.

use serde::Deserialize;
use sync_aws::lambda::Invoke;
use sync_domain::ports;

/// Why a function did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be invoked.
    #[error("the function cannot be invoked; it takes lambda:InvokeFunction on it")]
    Invoke(#[from] ports::Error),
    /// It ended with an error.
    #[error("the function says: {0}")]
    Function(String),
    /// It answered something else.
    #[error("the function's answer cannot be read; is it of the same release?")]
    Answer,
}

/// Invokes a function and reads its answer.
pub(crate) async fn call<T: for<'de> Deserialize<'de>>(
    function: &dyn Invoke,
    request: &str,
) -> Result<T, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Ended {
        error_message: String,
    }

    match function.invoke(request).await? {
        Ok(answer) => serde_json::from_str(&answer).map_err(|_| Error::Answer),
        // Names, codes and remedies: the function's errors hold no value.
        Err(ended) => {
            let ended: Ended = serde_json::from_str(&ended).map_err(|_| Error::Answer)?;
            Err(Error::Function(ended.error_message))
        }
    }
}

/// The runtime for the calls of one command.
pub(crate) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
