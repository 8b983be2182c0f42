//! `datasync reveal`: opens one sealed value. Who may, is decided by IAM: the caller needs `kms:Decrypt` for the model
//! and the attribute, and one item of the Keys table.

use std::io::{Read, Write};
use std::path::PathBuf;

use clap::Args;
use sync_aws::clients::Clients;
use sync_aws::dynamodb::DynamoKeyTable;
use sync_aws::kms::KmsKeys;
use sync_domain::id::{ModelId, RecordId};
use sync_domain::ports::{self, KeyService, KeyTable};
use sync_domain::protect::{OpenError, UnwrappedKey, open, sealed_parts};
use sync_lambda::settings::Lookup;
use zeroize::Zeroizing;

use crate::call::runtime;
use crate::outputs::{self, Outputs};

/// Opens a sealed value with your own AWS credentials.
#[derive(Debug, Args)]
pub struct Reveal {
    /// The sealed value; read from standard input without it.
    pub sealed: Option<String>,
    /// The model of the record.
    #[arg(long)]
    pub model: ModelId,
    /// The attribute, by its path in the model's file.
    #[arg(long)]
    pub attribute: String,
    /// The record id: `subject` and `partitionkey` of the event.
    #[arg(long)]
    pub rid: String,
    /// The Keys table; else KEYS_TABLE or the stack's outputs.
    #[arg(long)]
    pub keys_table: Option<String>,
    /// The key that wraps data keys; else VALUE_KEY_ARN or the stack's outputs.
    #[arg(long)]
    pub value_key: Option<String>,
    /// A file with the stack's outputs, as `sam list stack-outputs --output json` prints them.
    #[arg(long)]
    pub outputs: Option<PathBuf>,
}

/// Why a value was not opened. Nothing of the value stands in it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Standard input cannot be read.
    #[error("standard input cannot be read")]
    Input(#[source] std::io::Error),
    /// The runtime for the calls cannot be made, or the result cannot be written.
    #[error("the value cannot be fetched or written")]
    Shell(#[source] std::io::Error),
    /// It is not known where the keys are.
    #[error(transparent)]
    Where(#[from] outputs::Error),
    /// The Keys table has no such key.
    #[error("the Keys table has no key {0}; is it the table of the stack that sealed the value?")]
    NoKey(String),
    /// The key is for something else.
    #[error("this value is of {model}, attribute {attribute}; say --model and --attribute so")]
    Other {
        /// The model that the key seals.
        model: String,
        /// The attribute that the key seals.
        attribute: String,
    },
    /// A call failed.
    #[error(
        "AWS did not give the key; it takes dynamodb:GetItem on the Keys table and kms:Decrypt for this model and attribute"
    )]
    Call(#[from] ports::Error),
    /// The value does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
}

pub(crate) fn run(
    command: &Reveal,
    environment: &impl Lookup,
    input: &mut dyn Read,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let sealed = match &command.sealed {
        Some(sealed) => sealed.clone(),
        None => std::io::read_to_string(input).map_err(Error::Input)?,
    };
    let sealed = sealed.trim().trim_matches('"');
    // What is no sealed value is said before anything is asked of AWS.
    sealed_parts(sealed).ok_or(OpenError::Format)?;
    let outputs = Outputs::read(command.outputs.as_deref())?;
    let setting = |given: &Option<String>, option, variable, output| {
        outputs.setting(environment, given.as_deref(), option, variable, output)
    };
    let table = setting(&command.keys_table, "--keys-table", "KEYS_TABLE", "KeysTableName")?;
    let key = setting(&command.value_key, "--value-key", "VALUE_KEY_ARN", "ValueKeyArn")?;
    let runtime = runtime().map_err(Error::Shell)?;
    let value = runtime.block_on(async {
        let clients = Clients::from_profile().await;
        let keys = DynamoKeyTable::new(clients.dynamodb(), table);
        let service = KmsKeys::new(clients.kms()).with_value_key(key);
        reveal(sealed, command, &keys, &service).await
    })?;
    writeln!(out, "{}", value.as_str()).map_err(Error::Shell)
}

/// Opens a sealed value: the JSON value that was sealed.
async fn reveal(
    sealed: &str,
    command: &Reveal,
    keys: &dyn KeyTable,
    service: &dyn KeyService,
) -> Result<Zeroizing<String>, Error> {
    let (key_id, _) = sealed_parts(sealed).ok_or(OpenError::Format)?;
    let (model, attribute, wrapped) =
        keys.get(key_id).await?.ok_or_else(|| Error::NoKey(key_id.to_owned()))?;
    if model != command.model.as_str() || attribute != command.attribute {
        return Err(Error::Other { model, attribute });
    }
    let plain = service.unwrap_data_key(&model, &attribute, &wrapped).await?;
    let key = UnwrappedKey::new(&plain, key_id)?;
    let rid = RecordId::from_wire(command.rid.as_str());
    Ok(Zeroizing::new(open(&key, sealed, &model, &attribute, &rid)?))
}

#[cfg(test)]
mod tests;
