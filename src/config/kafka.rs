//! Apache Kafka, which is told what happens.

use clap::Args;

use crate::events::kafka::Settings;

/// Apache Kafka, which is told what happens.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Kafka")]
pub struct KafkaConfig {
    /// Brokers of a Kafka that everything in the event log is sent to (comma-separated, `host:port`); without them it is not.
    #[arg(long, env = "NOVA_KAFKA_BROKERS", value_name = "BROKERS", value_delimiter = ',', value_parser = parse_broker)]
    pub kafka_brokers: Vec<String>,

    /// What the names of its topics begin with there (`nova.` makes `nova.content-events`).
    #[arg(long, env = "NOVA_KAFKA_TOPIC_PREFIX", value_name = "TEXT", value_parser = parse_prefix)]
    pub kafka_topic_prefix: Option<String>,

    /// Whether topics that are missing there are made, with as many partitions as the event log has parts.
    #[arg(long, env = "NOVA_KAFKA_CREATE_TOPICS", value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub kafka_create_topics: bool,

    /// Copies of each partition of topics that are made; default: as the brokers have it.
    #[arg(long, env = "NOVA_KAFKA_REPLICAS", value_name = "N", value_parser = clap::value_parser!(i16).range(1..=100))]
    pub kafka_replicas: Option<i16>,
}

impl KafkaConfig {
    /// How Kafka is to be used, when it is.
    pub fn settings(&self) -> Option<Settings> {
        (!self.kafka_brokers.is_empty()).then(|| Settings {
            brokers: self.kafka_brokers.clone(),
            prefix: self.kafka_topic_prefix.clone().unwrap_or_default(),
            creates_topics: self.kafka_create_topics,
            replicas: self.kafka_replicas,
        })
    }
}

fn parse_broker(text: &str) -> Result<String, String> {
    let wrong = || "it must look like kafka.example:9092".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let is_host = !host.is_empty() && host.len() <= 255 && !host.contains(['/', '@', ' ']);
    match is_host && port.parse::<u16>().is_ok_and(|port| port > 0) {
        true => Ok(text.to_owned()),
        false => Err(wrong()),
    }
}

/// The longest topic of the log has 21 characters, the longest name in Kafka 249.
fn parse_prefix(text: &str) -> Result<String, String> {
    let fits = (1..=200).contains(&text.len());
    match fits && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')) {
        true => Ok(text.to_owned()),
        false => Err("it must be 1 to 200 letters, digits, ., - or _".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_a_host_and_a_port() {
        for fine in ["kafka:9092", "127.0.0.1:9092", "[::1]:9092", "b-1.kafka.example:9094"] {
            assert_eq!(parse_broker(fine).as_deref(), Ok(fine));
        }
        for wrong in ["", "kafka", "kafka:", ":9092", "kafka:0", "kafka:99999", "kafka://kafka:9092", "a b:1"]
        {
            assert_eq!(
                parse_broker(wrong),
                Err("it must look like kafka.example:9092".to_owned()),
                "{wrong}"
            );
        }
    }
}
