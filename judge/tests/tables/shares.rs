//! Who gets which label: votes, shares, ties, and votes that are void.

use expect_test::expect;

use crate::script::check;

#[test]
fn plain_majority() {
    check(expect![[r#"
        A: 7 7 7 9
        B: 7 7 8 9
        C: 7 6 6 -
        show votes
        show weights
        show totals
        ----
        consensus 7 share 500 by 3
        A: 7 share 375 by 2 pays [1000, 1000, 1000, 0]
        B: 7 share 500 by 2 pays [1000, 1000, 0, 0]
        C: 7 share 625 by 2 pays [1000, 0, 0, 0]
        A 1000000  B 1000000  C 1000000 unanchored
        decided 3 undecided 0 prompts undecided 0
        void {}
    "#]]);
}

#[test]
fn my_own_votes_do_not_label_me() {
    check(expect![[r#"
        # A alone is certain of 9; everybody else must learn it is the consensus, A must not learn 9 from itself
        rules supporters=1 tau=0
        A: 9 9 9 9
        B: 7 7 - -
        C: 7 8 - -
        show votes
        ----
        consensus 9 share 333 by 1
        A: 7 share 375 by 2 pays [0, 0, 0, 0]
        B: 9 share 500 by 1 pays [0, 0, 0, 0]
        C: 9 share 500 by 1 pays [0, 0, 0, 0]
    "#]]);
}

#[test]
fn abstentions_and_unreadable_answers_lower_the_share() {
    check(expect![[r#"
        A: 7 7
        B: 7 7
        C: 7 7
        D: 7 7 | # abstains
        prompt
        A: 7 7
        B: 7 7
        C: 7 7
        D: - -   # unreadable
        prompt
        A: 7 7
        B: 7 7
        C: 7 7
        D: 8 8
        show votes
        show totals
        ----
        consensus 7 share 750 by 3
        A: 7 share 666 by 2 pays [1000, 1000]
        B: 7 share 666 by 2 pays [1000, 1000]
        C: 7 share 666 by 2 pays [1000, 1000]
        D: 7 share 1000 by 3 pays [1000, 1000]
        consensus 7 share 750 by 3
        A: 7 share 666 by 2 pays [1000, 1000]
        B: 7 share 666 by 2 pays [1000, 1000]
        C: 7 share 666 by 2 pays [1000, 1000]
        D: 7 share 1000 by 3 pays [0, 0]
        consensus 7 share 750 by 3
        A: 7 share 666 by 2 pays [1000, 1000]
        B: 7 share 666 by 2 pays [1000, 1000]
        C: 7 share 666 by 2 pays [1000, 1000]
        D: 7 share 1000 by 3 pays [0, 0]
        decided 12 undecided 0 prompts undecided 0
        void {}
    "#]]);
}

#[test]
fn the_gate_is_on_the_share_of_the_others() {
    check(expect![[r#"
        rules tau=500
        A: 7 7 7 7
        B: 7 7 8 9
        C: 7 7 - -
        D: 7 - - -
        show votes
        ----
        consensus 7 share 562 by 4
        A: undecided, BelowGate: 7 share 416 by 3
        B: 7 share 583 by 3 pays [1000, 1000, 0, 0]
        C: 7 share 583 by 3 pays [1000, 1000, 0, 0]
        D: 7 share 666 by 3 pays [1000, 0, 0, 0]
    "#]]);
}

#[test]
fn two_of_the_others_must_stand_behind_a_label() {
    check(expect![[r#"
        A: 7 7 7 7
        B: 7 8 8 8
        C: 9 9 9 9
        show votes
        prompt                       # weight 0 is no support
        know A accuracy=300 ballots=40
        know B accuracy=300 ballots=40
        know C accuracy=300 ballots=40
        know Z accuracy=0 ballots=40
        A: 5 5
        B: 7 7
        C: 6 8
        Z: 7 7
        settle
        show votes
        show weights
        ----
        consensus 7 share 416 by 2
        A: undecided, TooFewSupporters: 9 share 500 by 1
        B: undecided, TooFewSupporters: 7 share 500 by 1
        C: 7 share 625 by 2 pays [0, 0, 0, 0]
        consensus 7 share 416 by 2
        A: undecided, TooFewSupporters: 9 share 500 by 1
        B: undecided, TooFewSupporters: 7 share 500 by 1
        C: 7 share 625 by 2 pays [0, 0, 0, 0]
        Z: 7 share 416 by 2
        consensus 5 share 333 by 1
        A: undecided, TooFewSupporters: 7 share 500 by 1
        B: undecided, TooFewSupporters: 5 share 500 by 1
        C: undecided, TooFewSupporters: 5 share 500 by 1
        Z: undecided, TooFewSupporters: 5 share 333 by 1
        A 1000000  B 1000000  C 1000000  Z 0
    "#]]);
}

#[test]
fn fewer_than_three_voters_train_nobody() {
    check(expect![[r#"
        A: 7 7
        B: 7 7
        show votes
        clear
        know J joiner
        A: 7 7
        B: 7 7
        J: 7 7
        settle
        show votes
        ----
        consensus 7 share 1000 by 2
        A: undecided, TooFewVoters: 7 share 1000 by 1
        B: undecided, TooFewVoters: 7 share 1000 by 1
        consensus 7 share 1000 by 2
        A: undecided, TooFewVoters: 7 share 1000 by 1
        B: undecided, TooFewVoters: 7 share 1000 by 1
        J: undecided, TooFewVoters: 7 share 1000 by 2
    "#]]);
}

#[test]
fn nobody_votes() {
    check(expect![[r#"
        A: - -
        B: 7 7 |
        C: 8 |
        show votes
        prompt
        settle
        show votes
        ----
        no consensus
        A: undecided, NoBallots: - share 0 by 0
        B: undecided, NoBallots: - share 0 by 0
        C: undecided, NoBallots: - share 0 by 0
        no consensus
        A: undecided, NoBallots: - share 0 by 0
        B: undecided, NoBallots: - share 0 by 0
        C: undecided, NoBallots: - share 0 by 0
        no consensus
        A: undecided, NoBallots: - share 0 by 0
        B: undecided, NoBallots: - share 0 by 0
        C: undecided, NoBallots: - share 0 by 0
    "#]]);
}

#[test]
fn ties_go_to_the_lowest_id() {
    check(expect![[r#"
        A: b a
        B: b a
        C: a b
        show votes
        prompt
        A: b a
        B: b a
        C: a b
        A ? a=-1 b=0   # the smallest difference in critiques goes first
        B ? a=-1 b=0
        C ? a=-1 b=0
        settle
        show votes
        ----
        consensus a share 500 by 3
        A: a share 500 by 2 pays [0, 1000]
        B: a share 500 by 2 pays [0, 1000]
        C: a share 500 by 2 pays [1000, 0]
        consensus a share 500 by 3
        A: a share 500 by 2 pays [0, 1000]
        B: a share 500 by 2 pays [0, 1000]
        C: a share 500 by 2 pays [1000, 0]
        consensus b share 500 by 3
        A: b share 500 by 2 pays [1000, 0]
        B: b share 500 by 2 pays [1000, 0]
        C: b share 500 by 2 pays [0, 1000]
    "#]]);
}

#[test]
fn stuffed_ballots_are_void_as_a_whole() {
    check(expect![[r#"
        A: 7 7
        B: 7 7
        C: 7 8
        L: 8 8 | 7=1 8=1000
        gold 8
        show votes
        show totals
        settle
        show gold
        ----
        consensus 7 share 625 by 3
        A: 7 share 500 by 2 pays [1000, 1000]
        B: 7 share 500 by 2 pays [1000, 1000]
        C: 7 share 666 by 2 pays [1000, 0]
        L: 7 share 833 by 3 pays [0, 0]
        void: L Overfull
        decided 4 undecided 0 prompts undecided 0
        void {Overfull: 1}
        drawn [0] consensus right 0 labels right 0/4 forgiven
        A tried 1 mass 0
        B tried 1 mass 0
        C tried 1 mass 500
        L tried 1 mass 0
    "#]]);
}

#[test]
fn votes_from_outside_the_roster_and_for_unrevealed_answers_do_not_count() {
    check(expect![[r#"
        A: 7 7
        B: 7 7 | 7=400 zzz=600
        C: 7 8
        !X: 8 8 8 8
        !Y: new new
        X ? 7=-4000 8=0
        show votes
        show totals
        ----
        consensus 7 share 633 by 3
        A: 7 share 450 by 2 pays [1000, 1000]
        B: 7 share 750 by 2 pays [1000, 1000]
        C: 7 share 700 by 2 pays [1000, 0]
        void: B UnknownCandidate
        void: X NotInRoster
        void: Y NotInRoster
        decided 3 undecided 0 prompts undecided 0
        void {NotInRoster: 2, UnknownCandidate: 1}
    "#]]);
}
