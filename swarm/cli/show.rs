//! `murmur config show CONFIG`: the config that holds, and where each value is from.

use std::path::PathBuf;

use anyhow::Context;
use clap::Subcommand;

use crate::exit::Outcome;
use crate::join::JoinConfig;
use crate::layers::{self, Layered, Override};
use crate::printer;

/// What can be asked about a config.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print every value that holds: defaults, the file, MURMUR_SECTION__KEY, --set.
    Show(ShowArgs),
    /// Print the JSON schema of join configs, from which editors complete and explain keys.
    Schema,
}

/// Arguments of `murmur config show`.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// Join config.
    #[arg(value_name = "CONFIG")]
    config: PathBuf,
    /// Say where each value is from.
    #[arg(long)]
    origin: bool,
    #[command(flatten)]
    set: SetArgs,
    /// Print keys, values and origins as JSON.
    #[arg(long)]
    json: bool,
}

/// Values from the command line.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct SetArgs {
    /// Set a key of the config, such as peer.base=cedar; not one under [swarm].
    #[arg(long, value_name = "KEY=VALUE", value_parser = Override::parse)]
    pub(crate) set: Vec<Override>,
}

/// Runs the command.
///
/// # Errors
/// A config or value that cannot be read.
pub(crate) fn run(command: &ConfigCommand) -> anyhow::Result<Outcome> {
    let args = match command {
        ConfigCommand::Show(args) => args,
        ConfigCommand::Schema => {
            printer::data(&schema()?)?;
            return Ok(Outcome::Done);
        }
    };
    let layered: Layered<JoinConfig> = layers::read(&args.config, &args.set.set)?;
    if args.json {
        printer::json(&layered.entries()?)?;
    } else {
        printer::data(&text(&layered, args.origin)?)?;
    }
    Ok(Outcome::Done)
}

/// A config as TOML that can be read again, with its swarm's id and, if asked for, the origin of each value.
///
/// # Errors
/// A config that TOML cannot hold.
pub(crate) fn text(layered: &Layered<JoinConfig>, origins: bool) -> anyhow::Result<String> {
    let id = format!("# swarm id {}", layered.config.swarm.id());
    if !origins {
        return Ok(format!(
            "{id}\n{}",
            toml::to_string(&layered.config).context("the config cannot be shown")?
        ));
    }
    let entries = layered.entries()?;
    let lines: Vec<String> = entries.iter().map(|entry| format!("{} = {}", entry.key, entry.value)).collect();
    let width = lines.iter().map(|line| line.chars().count()).filter(|width| *width <= WIDTH_MAX).max();
    let width = width.unwrap_or_default();
    let lines = lines.iter().zip(&entries);
    let lines = lines.map(|(line, entry)| format!("{line:width$}  # {}", layered.words(&entry.origin)));
    Ok(lines.fold(id, |text, line| text + "\n" + &*line))
}

/// Longer lines do not push the others' comments to the right.
const WIDTH_MAX: usize = 60;

/// The JSON schema of a join config.
///
/// # Errors
/// A schema that JSON cannot hold.
fn schema() -> anyhow::Result<String> {
    let mut schema = serde_json::to_value(schemars::schema_for!(JoinConfig))?;
    shorten(&mut schema);
    Ok(serde_json::to_string_pretty(&schema)?)
}

/// Writes the numbers of defaults as people do: they are of single precision.
fn shorten(value: &mut serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::Number(number) if number.is_f64() => {
            let short = number.as_f64().map(|number| (number as f32).to_string().parse::<f64>());
            if let Some(Ok(short)) = short {
                *value = Value::from(short);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(shorten),
        Value::Object(fields) => fields.values_mut().for_each(shorten),
        _ => {}
    }
}
