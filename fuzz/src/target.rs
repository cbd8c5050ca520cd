//! The targets: what an input means, and what must hold when it is done to the server.

mod api;
mod http;
mod mqtt;
mod uplink;
mod upload;

use crate::Broken;
use crate::dice::Dice;

/// Something that takes bytes.
pub trait Target {
    /// The inputs to begin with, valid ones mostly.
    fn seeds(&self) -> Vec<Vec<u8>>;

    /// Another input made of `entry`; `other` is one more of the corpus.
    fn mutate(&self, dice: &mut Dice, entry: &[u8], other: &[u8]) -> Vec<u8>;

    /// Does the input to the server; answers the class of the outcome, or what was broken.
    fn attempt(&mut self, input: &[u8]) -> Result<String, Broken>;

    /// Looks at the server as a whole: a valid client works, the database holds together.
    fn check(&mut self) -> Result<(), Broken>;

    /// Starts a new server.
    fn renew(&mut self) -> Result<(), Broken>;

    /// What is worth saying at the end.
    fn remarks(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// The names of all targets.
pub const NAMES: [&str; 5] = ["mqtt", "uplink", "http", "api", "upload"];

/// The target of this name, on a new server.
pub fn open(name: &str) -> Result<Option<Box<dyn Target>>, Broken> {
    Ok(Some(match name {
        "mqtt" => Box::new(mqtt::Mqtt::new()?),
        "uplink" => Box::new(uplink::Uplink::new()?),
        "http" => Box::new(http::Http::new()?),
        "api" => Box::new(api::Api::new()?),
        "upload" => Box::new(upload::Upload::new()?),
        _ => return Ok(None),
    }))
}

/// Words as mutation tokens.
fn tokens(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| crate::corpus::bytes(word)).collect()
}
