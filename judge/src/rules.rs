//! The numbers of the rule. They are part of the manifest: every peer of a swarm has the same ones.

use crate::audits::AuditRules;
use crate::curriculum::CurriculumRules;
use serde::{Deserialize, Serialize};

/// A vote trains nobody in a roster with fewer voters (members of non-zero weight) than this: with two, each label
/// would be the other peer's word.
pub const VOTERS_MIN: usize = 3;

/// The parameters of the vote and of reputation. Shares are in permille.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// The gate τ: a prompt trains a peer only if the winner's share of the vote weight reaches this. 0 to 1000.
    pub tau_permille: u32,
    /// Peers that must stand behind the winner, the labelled peer not counted. At least 1.
    pub supporters_min: u32,
    /// How much of a round's prompts with a reference answer is drawn as gold a round later. 0 to 1000; whatever
    /// the share, one is drawn if there is any. 0 means exactly one.
    pub gold_share_permille: u32,
    /// What a gold ballot is still worth after one more round with gold ballots. 1 to 1000.
    pub weight_decay_permille: u32,
    /// A peer with less than this part of the best peer's accuracy gets weight 0. 0 to 1000.
    pub cut_permille: u32,
    /// The cut needs this many gold ballots of the peer.
    pub cut_after_ballots: u32,
    /// Accuracy above this multiple of the median peer's counts no further. At least 1000.
    pub weight_cap_permille: u32,
    /// Gold ballots that a later joiner casts at weight 0.
    pub probation_ballots: u32,
    /// What is left of a peer's liveness factor after a commit without a reveal. 0 to 1000.
    pub withheld_permille: u32,
    /// What is left of it after a round with a missed deadline. 0 to 1000.
    pub missed_permille: u32,
    /// What a clean round gives back, at most to 1000. At least 1.
    pub recovery_permille: u32,
    /// How answers are audited. Not part of the encoding while it is the default.
    #[serde(skip_serializing_if = "AuditRules::is_default")]
    pub audit: AuditRules,
    /// How families move from level to level; without it they are drawn from all of theirs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub curriculum: Option<CurriculumRules>,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            tau_permille: 250,
            supporters_min: 2,
            gold_share_permille: 200,
            weight_decay_permille: 980,
            cut_permille: 400,
            cut_after_ballots: 30,
            weight_cap_permille: 2000,
            probation_ballots: 20,
            withheld_permille: 500,
            missed_permille: 800,
            recovery_permille: 100,
            audit: AuditRules::default(),
            curriculum: None,
        }
    }
}

/// Rules that nobody should found a swarm with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// A field is outside its range.
    #[error("{field} is {value}, but must be between {min} and {max}")]
    Range {
        /// The field's name.
        field: &'static str,
        /// Its value.
        value: u32,
        /// The smallest sensible value.
        min: u32,
        /// The largest sensible value.
        max: u32,
    },
    /// The cut could silence the median peer.
    #[error(
        "cut_permille {cut} of an accuracy capped at weight_cap_permille {cap} of the median would silence the \
         median peer; hint: keep their product at or below 1000000"
    )]
    CutsMedian {
        /// `cut_permille`.
        cut: u32,
        /// `weight_cap_permille`.
        cap: u32,
    },
}

impl Rules {
    /// Checks every range.
    ///
    /// [`settle`](crate::settle) is total whatever the rules are; this is for whoever reads a manifest.
    ///
    /// # Errors
    /// The first field outside its documented range.
    pub fn validate(&self) -> Result<(), RulesError> {
        let ranges = [
            ("tau_permille", self.tau_permille, 0, 1000),
            ("supporters_min", self.supporters_min, 1, u32::MAX),
            ("gold_share_permille", self.gold_share_permille, 0, 1000),
            ("weight_decay_permille", self.weight_decay_permille, 1, 1000),
            ("cut_permille", self.cut_permille, 0, 1000),
            ("weight_cap_permille", self.weight_cap_permille, 1000, 1_000_000),
            ("withheld_permille", self.withheld_permille, 0, 1000),
            ("missed_permille", self.missed_permille, 0, 1000),
            ("recovery_permille", self.recovery_permille, 1, 1000),
            ("audit.share_permille", self.audit.share_permille, 0, 1000),
            ("audit.prompts", self.audit.prompts, 1, u32::MAX),
            ("audit.plant_permille", self.audit.plant_permille, 0, 500),
        ];
        let of_curriculum = |rules: &CurriculumRules| {
            [
                ("curriculum.prompts", rules.prompts, 1, u32::MAX),
                ("curriculum.raise_permille", rules.raise_permille, 1, 1000),
                (
                    "curriculum.lower_permille",
                    rules.lower_permille,
                    0,
                    rules.raise_permille.saturating_sub(1),
                ),
            ]
        };
        let of_curriculum = self.curriculum.iter().flat_map(of_curriculum);
        for (field, value, min, max) in ranges.into_iter().chain(of_curriculum) {
            if value < min || value > max {
                return Err(RulesError::Range { field, value, min, max });
            }
        }
        // At most 10^3 times 10^6 by the ranges above.
        if self.cut_permille * self.weight_cap_permille > 1_000_000 {
            return Err(RulesError::CutsMedian { cut: self.cut_permille, cap: self.weight_cap_permille });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_each_range_is_checked() {
        assert_eq!(Rules::default().validate(), Ok(()));
        type Spoil = fn(&mut Rules);
        let broken: [(&str, Spoil); 11] = [
            ("tau_permille is 1001, but must be between 0 and 1000", |r| r.tau_permille = 1001),
            ("supporters_min is 0, but must be between 1 and 4294967295", |r| r.supporters_min = 0),
            ("gold_share_permille is 1001, but must be between 0 and 1000", |r| r.gold_share_permille = 1001),
            ("weight_decay_permille is 0, but must be between 1 and 1000", |r| r.weight_decay_permille = 0),
            ("cut_permille is 1001, but must be between 0 and 1000", |r| r.cut_permille = 1001),
            ("weight_cap_permille is 999, but must be between 1000 and 1000000", |r| {
                r.weight_cap_permille = 999
            }),
            ("withheld_permille is 2000, but must be between 0 and 1000", |r| r.withheld_permille = 2000),
            ("missed_permille is 2000, but must be between 0 and 1000", |r| r.missed_permille = 2000),
            ("recovery_permille is 0, but must be between 1 and 1000", |r| r.recovery_permille = 0),
            ("curriculum.lower_permille is 700, but must be between 0 and 699", |r| {
                r.curriculum = Some(CurriculumRules { lower_permille: 700, ..CurriculumRules::default() })
            }),
            (
                "cut_permille 400 of an accuracy capped at weight_cap_permille 2501 of the median would silence the \
                 median peer; hint: keep their product at or below 1000000",
                |r| r.weight_cap_permille = 2501,
            ),
        ];
        for (message, spoil) in broken {
            let mut rules = Rules::default();
            spoil(&mut rules);
            assert_eq!(rules.validate().unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn a_misspelt_rule_is_an_error_and_a_missing_one_its_default() {
        assert_eq!(serde_json::from_str::<Rules>("{}").unwrap(), Rules::default());
        assert!(serde_json::from_str::<Rules>(r#"{"tau": 300}"#).is_err());
    }
}
