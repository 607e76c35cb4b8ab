//! Peers that vote together against the truth, or hide among the honest.

use expect_test::expect;

use crate::script::check;

#[test]
fn newcomers_who_fail_on_purpose_shield_nobody() {
    check(expect![[r#"
        roster A B C L
        rules gold=1000
        A: 7 7
        B: 7 7
        C: 7 7
        L: 8 8
        gold 7
        settle
        clear
        roster A B C L X Y Z W V
        A: 7 7
        B: 7 7
        C: 7 7
        L: 8 8
        X: 8 8
        Y: 8 8
        Z: 8 8
        W: 8 8
        V: 8 8
        gold 7
        withheld L
        withheld X
        withheld Y
        withheld Z
        withheld W
        withheld V
        settle 2
        show gold
        show reputation
        ----
        drawn [0] consensus right 1 labels right 9/9
        A tried 1 mass 1000
        B tried 1 mass 1000
        C tried 1 mass 1000
        L tried 1 mass 0
        V tried 1 mass 0
        W tried 1 mass 0
        X tried 1 mass 0
        Y tried 1 mass 0
        Z tried 1 mass 0
        A accuracy 604871 ballots 2 liveness 1000 critic 0 weight 1000000
        B accuracy 604871 ballots 2 liveness 1000 critic 0 weight 1000000
        C accuracy 604871 ballots 2 liveness 1000 critic 0 weight 1000000
        L accuracy 197564 ballots 2 liveness 250 critic 0 weight 81655
        V accuracy 248730 ballots 1 liveness 250 critic 0 weight 0
        W accuracy 248730 ballots 1 liveness 250 critic 0 weight 0
        X accuracy 248730 ballots 1 liveness 250 critic 0 weight 0
        Y accuracy 248730 ballots 1 liveness 250 critic 0 weight 0
        Z accuracy 248730 ballots 1 liveness 250 critic 0 weight 0
    "#]]);
}

#[test]
fn one_colluding_liar_in_four() {
    check(expect![[r#"
        # honest peers as the embedded bases are: right in three of eight, the rest diffuse
        A: 7 7 7 1 2 3 4 -
        B: 7 7 7 2 5 6 - -
        C: 7 7 7 3 6 9 8 8
        L: 8 8 8 8 8 8 8 8
        A ? 7=-200 8=-2000 1=-2500 2=-2600 3=-2600 4=-2600 5=-2600 6=-2600 9=-2600
        B ? 7=-220 8=-2100 1=-2500 2=-2600 3=-2600 4=-2600 5=-2600 6=-2600 9=-2600
        C ? 7=-180 8=-1900 1=-2500 2=-2600 3=-2600 4=-2600 5=-2600 6=-2600 9=-2600
        L ? 7=-4000 8=0
        show votes
        ----
        consensus 7 share 281 by 3
        A: 7 share 250 by 2 pays [1000, 1000, 1000, 0, 0, 0, 0, 0]
        B: 7 share 250 by 2 pays [1000, 1000, 1000, 0, 0, 0, 0, 0]
        C: 7 share 250 by 2 pays [1000, 1000, 1000, 0, 0, 0, 0, 0]
        L: 7 share 375 by 3 pays [0, 0, 0, 0, 0, 0, 0, 0]
    "#]]);
}

#[test]
fn one_colluding_liar_in_four_without_critiques_wins_until_gold_tells() {
    check(expect![[r#"
        A: 7 7 7 1 2 3 4 -
        B: 7 7 7 2 5 6 - -
        C: 7 7 7 3 6 9 8 8
        L: 8 8 8 8 8 8 8 8
        gold 7
        show votes
        settle
        show weights
        show votes
        settle 3
        show weights
        show votes
        ----
        consensus 8 share 312 by 2
        A: 8 share 416 by 2 pays [0, 0, 0, 0, 0, 0, 0, 0]
        B: 8 share 416 by 2 pays [0, 0, 0, 0, 0, 0, 0, 0]
        C: undecided, TooFewSupporters: 8 share 333 by 1
        L: 7 share 375 by 3 pays [0, 0, 0, 0, 0, 0, 0, 0]
        A 1000000  B 1000000  C 1000000  L 723245
        consensus 7 share 302 by 3
        A: 8 share 357 by 2 pays [0, 0, 0, 0, 0, 0, 0, 0]
        B: 8 share 357 by 2 pays [0, 0, 0, 0, 0, 0, 0, 0]
        C: 7 share 275 by 2 pays [1000, 1000, 1000, 0, 0, 0, 0, 0]
        L: 7 share 375 by 3 pays [0, 0, 0, 0, 0, 0, 0, 0]
        A 1000000  B 1000000  C 1000000  L 387881
        consensus 7 share 332 by 3
        A: 7 share 314 by 2 pays [1000, 1000, 1000, 0, 0, 0, 0, 0]
        B: 7 share 314 by 2 pays [1000, 1000, 1000, 0, 0, 0, 0, 0]
        C: 7 share 314 by 2 pays [1000, 1000, 1000, 0, 0, 0, 0, 0]
        L: 7 share 375 by 3 pays [0, 0, 0, 0, 0, 0, 0, 0]
    "#]]);
}

#[test]
fn camouflage_works_only_until_gold_catches_up() {
    check(expect![[r#"
        # forty rounds better than everybody, then always wrong, and nobody criticises: .98 a round forgets slowly
        A: 7 7 7 1
        B: 7 7 2 3
        C: 7 7 8 -
        L: 7 7 7 7
        gold 7
        settle 40
        show weights
        clear
        A: 7 7 7 1
        B: 7 7 2 3
        C: 7 7 8 -
        L: 8 8 8 8
        gold 7
        settle
        show votes
        settle 40
        show weights
        show votes
        settle 40
        show weights
        ----
        A 754102  B 508204  C 508204  L 1000000
        consensus 8 share 406 by 2
        A: 8 share 559 by 2 pays [0, 0, 0, 0]
        B: 8 share 498 by 2 pays [0, 0, 0, 0]
        C: undecided, TooFewSupporters: 8 share 442 by 1
        L: 7 share 606 by 3 pays [0, 0, 0, 0]
        A 1000000  B 668855  C 668855  L 414925
        consensus 7 share 515 by 3
        A: 7 share 381 by 2 pays [1000, 1000, 1000, 0]
        B: 7 share 520 by 2 pays [1000, 1000, 0, 0]
        C: 7 share 520 by 2 pays [1000, 1000, 0, 0]
        L: 7 share 606 by 3 pays [0, 0, 0, 0]
        A 1000000  B 667526  C 667526  L 0
    "#]]);
}

#[test]
fn weights_after_ten_rounds_of_honest_third_against_liar() {
    check(expect![[r#"
        rules gold=1000
        roster A B C L
        A: 7 1 2
        B: 7 3 4
        C: 7 5 -
        L: 8 8 8
        gold 7
        prompt
        A: 7 1 2
        B: 7 3 4
        C: 7 5 -
        L: 8 8 8
        gold 7
        prompt
        A: 7 1 2
        B: 7 3 4
        C: 7 5 -
        L: 8 8 8
        gold 7
        settle 1
        show weights
        settle 9     # nine draws of three: 27 ballots
        show weights
        settle
        show weights # the 30th ballot cuts
        show reputation
        ----
        A 1000000  B 1000000  C 1000000  L 1000000 unanchored
        A 1000000  B 1000000  C 1000000  L 91238
        A 1000000  B 1000000  C 1000000  L 0
        A accuracy 333027 ballots 30 liveness 1000 critic 0 weight 1000000
        B accuracy 333027 ballots 30 liveness 1000 critic 0 weight 1000000
        C accuracy 333027 ballots 30 liveness 1000 critic 0 weight 1000000
        L accuracy 27335 ballots 30 liveness 1000 critic 0 weight 0
    "#]]);
}

#[test]
fn half_of_a_roster_of_liars_does_not_move_the_cap() {
    check(expect![[r#"
        roster A B L M
        know A accuracy=330 ballots=20
        know B accuracy=320 ballots=20
        know L accuracy=10 ballots=20
        know M accuracy=10 ballots=20
        settle
        show weights
        ----
        A 1000000  B 969696  L 30303  M 30303
    "#]]);
}
