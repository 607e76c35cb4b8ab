//! What gold says of peers, and how it weighs their next votes.

use expect_test::expect;

use crate::script::check;

#[test]
fn founders_named_by_the_manifest_are_the_only_ones_to_vote_at_once() {
    check(expect![[r#"
        found A B C
        A: 7 7
        B: 7 7
        C: 7 7
        J: 8 8
        gold 7
        show weights
        ----
        A 1000000  B 1000000  C 1000000  J 0 unanchored
    "#]]);
}

#[test]
fn gold_is_drawn_a_round_later_a_fifth_of_the_prompts_one_at_least() {
    check(expect![[r#"
        A: 7 8
        B: 7 7
        C: 7 -
        gold 7
        prompt
        A: 7 8
        B: 9 9
        C: 9 9
        gold 7
        prompt       # no reference answer: never drawn
        A: 7 8
        B: 7 7
        C: 7 7
        show gold    # nothing pending yet
        settle
        show gold
        settle
        show gold
        settle
        show gold
        rules gold=1000
        settle
        show gold
        ----
        drawn [] consensus right 0 labels right 0/0
        drawn [1] consensus right 0 labels right 0/1 forgiven
        A tried 1 mass 500
        B tried 1 mass 0
        C tried 1 mass 0
        drawn [1] consensus right 0 labels right 0/1 forgiven
        A tried 1 mass 500
        B tried 1 mass 0
        C tried 1 mass 0
        drawn [1] consensus right 0 labels right 0/1 forgiven
        A tried 1 mass 500
        B tried 1 mass 0
        C tried 1 mass 0
        drawn [0, 1] consensus right 1 labels right 3/4
        A tried 2 mass 500
        B tried 2 mass 500
        C tried 2 mass 250
    "#]]);
}

#[test]
fn an_empty_ballot_on_an_answered_prompt_is_a_failed_trial_a_lost_vote_is_none() {
    check(expect![[r#"
        rules gold=1000
        A: 7 7
        B: 7 7
        C: 7 7 |     # voted below, so this was a choice
        D: 7 7 |     # voted nowhere: late or lost
        gold 7
        prompt
        A: 7 7
        B: 7 7
        C: 7 7
        D: 7 7 |
        gold 7
        settle 2
        show gold
        ----
        drawn [0, 1] consensus right 2 labels right 6/6
        A tried 2 mass 1000
        B tried 2 mass 1000
        C tried 2 mass 500
    "#]]);
}

#[test]
fn the_cut_needs_thirty_gold_ballots() {
    check(expect![[r#"
        roster A B K L
        know A accuracy=500 ballots=29
        know B accuracy=500 ballots=30
        know K accuracy=199 ballots=29
        know L accuracy=199 ballots=30
        settle
        show weights
        know K accuracy=200 ballots=30
        settle
        show weights
        ----
        A 1000000  B 1000000  K 398000  L 0
        A 1000000  B 1000000  K 400000  L 0
    "#]]);
}

#[test]
fn no_blame_where_most_fail() {
    check(expect![[r#"
        rules gold=1000
        A: 1 2       # gold is wrong, or the prompt out of reach
        B: 3 4
        C: 7 8
        gold 7
        late A
        late B
        settle 2
        show gold
        show totals
        show reputation
        clear
        A: 7 2
        B: 7 4
        C: 1 8
        gold 7
        late A
        settle 2
        show gold
        show totals
        show reputation
        ----
        drawn [0] consensus right 0 labels right 0/0 forgiven
        A tried 1 mass 0
        B tried 1 mass 0
        C tried 1 mass 500
        decided 0 undecided 3 prompts undecided 1
        void {} conduct forgiven
        A accuracy 333333 ballots 0 liveness 1000 critic 0 weight 1000000
        B accuracy 333333 ballots 0 liveness 1000 critic 0 weight 1000000
        C accuracy 333333 ballots 0 liveness 1000 critic 0 weight 1000000
        drawn [0] consensus right 1 labels right 1/1
        A tried 1 mass 500
        B tried 1 mass 500
        C tried 1 mass 0
        decided 1 undecided 2 prompts undecided 0
        void {}
        A accuracy 375634 ballots 1 liveness 640 critic 0 weight 640000
        B accuracy 375634 ballots 1 liveness 1000 critic 0 weight 1000000
        C accuracy 248730 ballots 1 liveness 1000 critic 0 weight 662160
    "#]]);
}

#[test]
fn joiners_wait_and_founders_do_not() {
    check(expect![[r#"
        rules probation=4 gold=1000
        A: 7 7
        B: 7 7
        C: 7 8
        gold 7
        prompt
        A: 7 7
        B: 7 7
        C: 7 8
        gold 7
        settle
        clear
        roster A B C J
        A: 7 7
        B: 7 7
        C: 7 8
        J: 7 7
        gold 7
        prompt
        A: 7 7
        B: 7 7
        C: 7 8
        J: 7 7
        gold 7
        settle
        show weights
        settle
        show weights
        settle
        show weights
        ----
        A 1000000  B 1000000  C 664429  J 0
        A 1000000  B 1000000  C 597593  J 0
        A 1000000  B 1000000  C 568981  J 917687
    "#]]);
}

#[test]
fn without_gold_all_are_equal_joiners_too() {
    check(expect![[r#"
        A: 7 7
        B: 7 7
        C: 7 8
        settle
        J: 9 9
        settle
        show weights
        show gold
        late J
        settle
        settle
        show weights
        ----
        A 1000000  B 1000000  C 1000000  J 1000000 unanchored
        drawn [] consensus right 0 labels right 0/0
        A 1000000  B 1000000  C 1000000  J 800000 unanchored
    "#]]);
}

#[test]
fn liveness_falls_fast_and_comes_back_slowly() {
    check(expect![[r#"
        A: 7 7
        B: 7 7
        C: 7 7
        D: 7 7
        withheld D
        late C
        settle
        show reputation
        clear
        A: 7 7
        B: 7 7
        C: 7 7
        D: 7 7
        settle 2
        show reputation
        settle 3
        show reputation
        ----
        A accuracy 333333 ballots 0 liveness 1000 critic 0 weight 1000000
        B accuracy 333333 ballots 0 liveness 1000 critic 0 weight 1000000
        C accuracy 333333 ballots 0 liveness 800 critic 0 weight 800000
        D accuracy 333333 ballots 0 liveness 500 critic 0 weight 500000
        A accuracy 333333 ballots 0 liveness 1000 critic 0 weight 1000000
        B accuracy 333333 ballots 0 liveness 1000 critic 0 weight 1000000
        C accuracy 333333 ballots 0 liveness 1000 critic 0 weight 1000000
        D accuracy 333333 ballots 0 liveness 700 critic 0 weight 700000
        A accuracy 333333 ballots 0 liveness 1000 critic 0 weight 1000000
        B accuracy 333333 ballots 0 liveness 1000 critic 0 weight 1000000
        C accuracy 333333 ballots 0 liveness 1000 critic 0 weight 1000000
        D accuracy 333333 ballots 0 liveness 1000 critic 0 weight 1000000
    "#]]);
}

#[test]
fn one_outstanding_peer_does_not_silence_the_others() {
    check(expect![[r#"
        roster A B C S
        know A accuracy=300 ballots=40
        know B accuracy=330 ballots=40
        know C accuracy=350 ballots=40
        know S accuracy=1000 ballots=40
        settle
        show weights
        rules cap=1000000   # uncapped
        settle
        show weights
        ----
        A 428571  B 471428  C 500000  S 1000000
        A 0  B 0  C 0  S 1000000
    "#]]);
}
