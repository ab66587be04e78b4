//! Experiments: some readers' ranked feeds are ordered in another way, to find out which is better.
//!
//! A user's bucket is the first eight bytes of SHA-256(salt · 0 · name · 0 · purpose · 0 · user id) modulo 10,000. Whether somebody is in an
//! experiment (`in`) and which arm they have (`arm`) are two buckets, so a ramp that grows lets people in and moves nobody to another arm.
//! A reader is in the first experiment, by name, whose ramp lets them in.
//!
//! Exposed is whom it made a difference to: an event is written when the arms would not have shown the same page, once for each reader,
//! experiment and arm on a node and day, and only for pages that a ranking gave.

use std::fmt;
use std::str::FromStr;

use nova_actors::id::UserId;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::model::is_name;

/// Buckets users fall into.
pub const BUCKETS: u32 = 10_000;
/// Arms of one experiment at most.
pub const ARMS_MAX: usize = 8;

/// How an arm orders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Ranking {
    /// As for everybody who is in no experiment.
    Control,
    /// By age and engagement.
    Engagement,
    /// The newest first.
    Newest,
    /// By the model of this file.
    Model(String),
}

impl fmt::Display for Ranking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ranking::Control => f.write_str("control"),
            Ranking::Engagement => f.write_str("engagement"),
            Ranking::Newest => f.write_str("newest"),
            Ranking::Model(slot) => write!(f, "model:{slot}"),
        }
    }
}

impl From<Ranking> for String {
    fn from(ranking: Ranking) -> String {
        ranking.to_string()
    }
}

impl TryFrom<String> for Ranking {
    type Error = String;

    fn try_from(text: String) -> Result<Ranking, String> {
        text.parse()
    }
}

impl FromStr for Ranking {
    type Err = String;

    fn from_str(text: &str) -> Result<Ranking, String> {
        match (text, text.strip_prefix("model:")) {
            ("control", _) => Ok(Ranking::Control),
            ("engagement", _) => Ok(Ranking::Engagement),
            ("newest", _) => Ok(Ranking::Newest),
            (_, Some(slot)) if is_name(slot) => Ok(Ranking::Model(slot.to_owned())),
            _ => Err("a ranking is `control`, `engagement`, `newest` or `model:` and the name of a file"
                .to_owned()),
        }
    }
}

/// One way of an experiment; written `NAME:WEIGHT:RANKING`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// Its name.
    pub name: String,
    /// Its share among the weights of all arms.
    pub weight: u32,
    /// How it orders.
    pub ranking: Ranking,
}

impl FromStr for Arm {
    type Err = String;

    fn from_str(text: &str) -> Result<Arm, String> {
        let mut words = text.splitn(3, ':');
        let (Some(name), Some(weight), Some(ranking)) = (words.next(), words.next(), words.next()) else {
            return Err("an arm is written NAME:WEIGHT:RANKING".to_owned());
        };
        let weight = weight.parse().ok().filter(|weight| (1..=BUCKETS).contains(weight));
        let weight = weight.ok_or(format!("a weight is a number from 1 to {BUCKETS}"))?;
        if !is_name(name) {
            return Err("the name of an arm has lowercase letters, digits, `-` and `_`".to_owned());
        }
        Ok(Arm { name: name.to_owned(), weight, ranking: ranking.parse()? })
    }
}

/// An experiment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Experiment {
    /// Its name.
    pub name: String,
    /// In what is hashed.
    pub salt: String,
    /// How many of [`BUCKETS`] are in it.
    pub ramp: u32,
    /// Its arms.
    pub arms: Vec<Arm>,
}

impl Experiment {
    /// Checks what an operator asks for.
    ///
    /// # Errors
    /// One sentence.
    pub fn check(&self) -> Result<(), String> {
        if !is_name(&self.name) {
            return Err("the name of an experiment has lowercase letters, digits, `-` and `_`".to_owned());
        }
        if !(2..=ARMS_MAX).contains(&self.arms.len()) {
            return Err(format!("an experiment has 2 to {ARMS_MAX} arms"));
        }
        let mut names: Vec<_> = self.arms.iter().map(|arm| &arm.name).collect();
        names.sort_unstable();
        names.dedup();
        if names.len() < self.arms.len() {
            return Err("two arms have the same name".to_owned());
        }
        if !self.arms.iter().any(|arm| arm.ranking == Ranking::Control) {
            return Err("one arm must have the ranking `control`, to compare the others with".to_owned());
        }
        if self.ramp > BUCKETS { Err(format!("a ramp is at most {BUCKETS}")) } else { Ok(()) }
    }

    /// The arm of a user; `None` when they are not in it.
    pub fn arm_of(&self, user: UserId) -> Option<&Arm> {
        if self.bucket("in", user) >= self.ramp {
            return None;
        }
        let all: u64 = self.arms.iter().map(|arm| u64::from(arm.weight)).sum();
        let mut place = u64::from(self.bucket("arm", user)) * all / u64::from(BUCKETS);
        self.arms.iter().find(|arm| match place.checked_sub(u64::from(arm.weight)) {
            Some(rest) => {
                place = rest;
                false
            }
            None => true,
        })
    }

    fn bucket(&self, purpose: &str, user: UserId) -> u32 {
        let mut hash = Context::new(&SHA256);
        for word in [self.salt.as_bytes(), self.name.as_bytes(), purpose.as_bytes()] {
            hash.update(word);
            hash.update(&[0]);
        }
        hash.update(user.as_uuid().as_bytes());
        let first =
            hash.finish().as_ref().iter().take(8).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        // Below 10,000.
        (first % u64::from(BUCKETS)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn experiment(ramp: u32) -> Experiment {
        let arms = ["control:1:control", "learned:3:model:home-b"].map(|arm| arm.parse().unwrap()).to_vec();
        Experiment { name: "order".to_owned(), salt: "s".to_owned(), ramp, arms }
    }

    #[test]
    fn users_fall_into_arms_by_weight_and_a_ramp_moves_nobody() {
        let users: Vec<_> = (0..4_000).map(|_| UserId::generate()).collect();
        let (half, all) = (experiment(5_000), experiment(BUCKETS));
        let mut learned = 0;
        let mut inside = 0;
        for user in &users {
            let arm = all.arm_of(*user).expect("everybody is in it");
            learned += usize::from(arm.name == "learned");
            if let Some(same) = half.arm_of(*user) {
                assert_eq!(same.name, arm.name);
                inside += 1;
            }
            assert!(experiment(0).arm_of(*user).is_none());
        }
        assert!((2_800..3_200).contains(&learned), "{learned}");
        assert!((1_800..2_200).contains(&inside), "{inside}");
    }

    #[test]
    fn buckets_stay_what_they_were() {
        let user = UserId::from_uuid(uuid::uuid!("0190a5ae-1f2b-7c3d-8e4f-001122334455"));
        let bucket = experiment(1).bucket("in", user);
        assert_eq!(bucket, experiment(9).bucket("in", user));
        let other = Experiment { salt: "t".to_owned(), ..experiment(1) };
        assert_ne!(bucket, other.bucket("in", user));
    }

    #[test]
    fn what_is_written_wrong_is_refused_with_a_sentence() {
        for odd in [
            "a",
            "a:1",
            "a:0:control",
            "a:x:control",
            "A:1:control",
            "a:1:best",
            "a:1:model:",
            "a:1:model:../x",
        ] {
            assert!(odd.parse::<Arm>().is_err(), "{odd}");
        }
        assert_eq!(experiment(10).check(), Ok(()));
        let one = Experiment { arms: experiment(1).arms[..1].to_vec(), ..experiment(1) };
        let none = Experiment { arms: vec![experiment(1).arms[1].clone(); 2], ..experiment(1) };
        let far = Experiment { ramp: BUCKETS + 1, ..experiment(1) };
        for wrong in [one, none, far, Experiment { name: "Two words".to_owned(), ..experiment(1) }] {
            assert!(wrong.check().is_err());
        }
    }
}
