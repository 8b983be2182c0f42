//! Lambda: a function that is invoked and waited for. For the command line; no function invokes another.

use async_trait::async_trait;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::primitives::Blob;
use sync_domain::ports::{Kind, Result};

use crate::error::{error, from_sdk};

const INVOKE: &str = "lambda:Invoke";

/// A function that answers.
#[async_trait]
pub trait Invoke: Send + Sync {
    /// Invokes it with a JSON document; the answer is what it returned, or the error that it ended with.
    async fn invoke(&self, payload: &str) -> Result<std::result::Result<String, String>>;
}

/// A function by its name or ARN.
#[derive(Debug, Clone)]
pub struct LambdaFunction {
    client: Client,
    name: String,
}

impl LambdaFunction {
    /// The function of a name.
    pub fn new(client: Client, name: impl Into<String>) -> Self {
        Self { client, name: name.into() }
    }
}

#[async_trait]
impl Invoke for LambdaFunction {
    async fn invoke(&self, payload: &str) -> Result<std::result::Result<String, String>> {
        let call = self.client.invoke().function_name(&self.name).payload(Blob::new(payload));
        let answer = call.send().await.map_err(|failed| from_sdk(INVOKE, &failed))?;
        let body = answer.payload.map(Blob::into_inner).unwrap_or_default();
        let body = String::from_utf8(body).map_err(|_| error(INVOKE, Kind::Refused, "NotText"))?;
        Ok(if answer.function_error.is_some() { Err(body) } else { Ok(body) })
    }
}
