//! What critiques decide between candidates, and what critics earn.

use expect_test::expect;

use crate::script::check;

#[test]
fn critiques_break_what_counts_cannot() {
    check(expect![[r#"
        A: 7 7 - -
        B: 7 8 8 8
        C: 8 9 - -
        D: 7 - - -
        show votes
        A ? 7=-100 8=-1500 9=-800
        B ? 7=-150 8=-1200 9=-900
        C ? 7=-120 8=-1100 9=-900
        D ? 7=-120 8=-1100 9=-900
        settle
        show votes
        ----
        consensus 7 share 250 by 3
        A: 8 share 333 by 2 pays [0, 0, 0, 0]
        B: 7 share 250 by 2 pays [1000, 0, 0, 0]
        C: 7 share 333 by 3 pays [0, 0, 0, 0]
        D: 8 share 333 by 2 pays [0, 0, 0, 0]
        consensus 7 share 250 by 3
        A: undecided, BelowGate: 7 share 166 by 2
        B: 7 share 250 by 2 pays [1000, 0, 0, 0]
        C: 7 share 333 by 3 pays [0, 0, 0, 0]
        D: 7 share 250 by 2 pays [1000, 0, 0, 0]
    "#]]);
}

#[test]
fn slanderous_critiques_do_not_flip_a_vote() {
    check(expect![[r#"
        A: 7 7 7 8
        B: 7 7 9 9
        C: 7 9 - -
        L: 9 9 9 9
        A ? 7=-100 8=-900 9=-800
        B ? 7=-150 8=-950 9=-850
        C ? 7=-120 8=-900 9=-900
        L ? 7=-4000 8=-4000 9=0
        show votes
        ----
        consensus 7 share 375 by 3
        A: 7 share 250 by 2 pays [1000, 1000, 1000, 0]
        B: 7 share 333 by 2 pays [1000, 1000, 0, 0]
        C: 7 share 416 by 2 pays [1000, 0, 0, 0]
        L: 7 share 500 by 3 pays [0, 0, 0, 0]
    "#]]);
}

#[test]
fn praise_of_an_answer_that_only_oneself_gave_does_not_count() {
    check(expect![[r#"
        # L weighs twice as much as anybody; heard on its own x, it would outweigh A's silence
        know A accuracy=300
        know B accuracy=300
        know C accuracy=300
        know L accuracy=600
        A: 7 7 8 8
        B: 7 7 9 9
        C: 7 7 - -
        L: x x - -
        A ? 7=-1000 8=-2000 9=-2000
        L ? 7=-4000 x=0
        show weights
        show votes
        ----
        A 500000  B 500000  C 500000  L 1000000
        consensus 7 share 300 by 3
        A: 7 share 250 by 2 pays [1000, 1000, 0, 0]
        B: 7 share 250 by 2 pays [1000, 1000, 0, 0]
        C: 7 share 250 by 2 pays [1000, 1000, 0, 0]
        L: 7 share 500 by 3 pays [0, 0, 0, 0]
    "#]]);
}

#[test]
fn between_two_critics_the_more_sceptical_one_is_believed() {
    check(expect![[r#"
        # medians: 7 -1500 against 8 -1000; were the higher one taken, 7 would win with -100
        A: 7 7 8 8
        B: 7 7 8 8
        C: 7 7 8 8
        D: 7 7 8 8
        A ? 7=-1500 8=-1000
        B ? 7=-100 8=-1000
        show votes
        ----
        consensus 8 share 500 by 4
        A: 7 share 500 by 3 pays [1000, 1000, 0, 0]
        B: 7 share 500 by 3 pays [1000, 1000, 0, 0]
        C: 8 share 500 by 3 pays [0, 0, 1000, 1000]
        D: 8 share 500 by 3 pays [0, 0, 1000, 1000]
    "#]]);
}

#[test]
fn a_candidate_without_a_critique_is_worth_the_least_where_others_have_one() {
    check(expect![[r#"
        A: 7 7 8 8
        B: 7 7 8 8
        C: 7 8 8 8
        A ? 7=-3000
        B ? 7=-3000
        C ? 7=-3000
        show votes
        ----
        consensus 7 share 416 by 3
        A: 7 share 375 by 2 pays [1000, 1000, 0, 0]
        B: 7 share 375 by 2 pays [1000, 1000, 0, 0]
        C: 7 share 500 by 2 pays [1000, 0, 0, 0]
    "#]]);
}

#[test]
fn one_critic_among_silent_peers_decides_nothing() {
    check(expect![[r#"
        A: 7 7 7 -
        B: 7 7 8 9
        C: 7 7 7 9
        L: 8 8 8 8
        L ? 8=0 7=-4000
        show votes
        ----
        consensus 7 share 500 by 3
        A: 7 share 416 by 2 pays [1000, 1000, 1000, 0]
        B: 7 share 500 by 2 pays [1000, 1000, 0, 0]
        C: 7 share 416 by 2 pays [1000, 1000, 1000, 0]
        L: 7 share 666 by 3 pays [0, 0, 0, 0]
    "#]]);
}

#[test]
fn praise_of_what_nobody_else_can_read_is_outweighed_by_their_silence() {
    check(expect![[r#"
        # heard only on x, L and M would have it score 2000, and 7 scores 2500 * exp(-1.2) = 753
        A: 7 7 7 8
        B: 7 7 7 9
        C: 7 7 7 9
        D: 7 - - -
        L: x x x x
        M: x x x x
        A ? 7=-400 8=-900 9=-900
        B ? 7=-400 8=-900 9=-900
        C ? 7=-400 8=-900 9=-900
        D ? 7=-400 8=-900 9=-900
        L ? x=0
        M ? x=0
        show votes
        ----
        consensus 7 share 416 by 4
        A: 7 share 350 by 3 pays [1000, 1000, 1000, 0]
        B: 7 share 350 by 3 pays [1000, 1000, 1000, 0]
        C: 7 share 350 by 3 pays [1000, 1000, 1000, 0]
        D: 7 share 450 by 3 pays [1000, 0, 0, 0]
        L: 7 share 500 by 4 pays [0, 0, 0, 0]
        M: 7 share 500 by 4 pays [0, 0, 0, 0]
    "#]]);
}

#[test]
fn critics_are_paid_for_telling_right_from_wrong_and_for_nothing_else() {
    check(expect![[r#"
        rules gold=1000
        A: 7 8 9
        B: 7 8 9
        C: 7 8 9
        D: 7 8 9
        E: 7 8 9
        A ? 7=-100 8=-900 9=-900     # right
        B ? 7=-900 8=-100 9=-100     # the wrong way round
        C ? 7=-4000 8=-4000 9=-4000  # "always wrong"
        D ? 7=-100 8=-50 9=-900      # half and half
        E ? 8=-50 9=-900             # says nothing about the right answer
        gold 7
        settle 2
        show reputation
        ----
        A accuracy 333248 ballots 1 liveness 1000 critic 1000 weight 1000000
        B accuracy 333248 ballots 1 liveness 1000 critic -1000 weight 1000000
        C accuracy 333248 ballots 1 liveness 1000 critic 0 weight 1000000
        D accuracy 333248 ballots 1 liveness 1000 critic 0 weight 1000000
        E accuracy 333248 ballots 1 liveness 1000 critic 0 weight 1000000
    "#]]);
}
