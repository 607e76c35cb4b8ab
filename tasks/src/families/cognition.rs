//! Attention, memory and the mind's eye.

use super::draw::{capital, join, word};
use super::{Category, Draft, Family, Parameters};
use crate::form::Form;
use crate::rng::Rng;

pub(super) const FAMILIES: &[Family] = &[
    Category::Cognition.family(
        "walk",
        Form::Text,
        "Where a walk of steps and turns ends.",
        &[("legs", [4, 5, 7, 9, 13]), ("longest leg", [9, 9, 20, 50, 99])],
        walk,
    ),
    Category::Cognition.family(
        "rolling-cube",
        Form::Text,
        "Which sides of a cube face where after it has rolled.",
        &[("rolls", [3, 4, 6, 9, 14])],
        rolling_cube,
    ),
    Category::Cognition.family(
        "haystack",
        Form::Text,
        "Who likes a thing, among many who like others.",
        &[("people", [5, 8, 12, 18, 26])],
        haystack,
    ),
    Category::Cognition.family(
        "swaps",
        Form::Text,
        "The order of things after some have changed places.",
        &[("things", [5, 6, 7, 8, 10]), ("swaps", [3, 4, 6, 8, 12])],
        swaps,
    ),
    Category::Cognition.family(
        "block-faces",
        Form::Integer,
        "How many faces of stacked cubes can be seen from above or the sides.",
        &[("rows", [2, 2, 3, 3, 4]), ("columns", [3, 4, 3, 4, 4]), ("highest stack", [9, 9, 9, 9, 9])],
        block_faces,
    ),
];

/// Worked by the place after each leg.
fn walk(rng: &mut Rng, [legs, longest, _]: Parameters) -> Draft {
    let (mut x, mut y, mut facing) = (0, 0, (0, 1));
    let (mut parts, mut places) = (Vec::new(), Vec::new());
    for leg in 0..legs {
        if leg > 0 {
            let left = rng.below(2) == 0;
            facing = if left { (-facing.1, facing.0) } else { (facing.1, -facing.0) };
            parts.push(if left { "left".to_string() } else { "right".into() });
        }
        let length = rng.between(1, longest);
        (x, y) = (x + length * facing.0, y + length * facing.1);
        parts.push(format!("walk {length}"));
        places.push(format!("{x},{y}"));
    }
    let question = format!(
        "Start at 0,0 facing north (y grows): {}. Left and right are turns on the spot. Where do you end, as x,y?",
        parts.join(", ")
    );
    Draft::new(question, format!("{x},{y}")).worked(places.join(" "))
}

/// Worked by the sides at the top, north and east after each roll.
fn rolling_cube(rng: &mut Rng, [rolls, ..]: Parameters) -> Draft {
    let mut letters: Vec<char> = (0..26).map(capital).collect();
    rng.shuffle(&mut letters);
    let [mut top, mut bottom, mut north, mut south, mut east, mut west] =
        [letters[0], letters[1], letters[2], letters[3], letters[4], letters[5]];
    let start = format!("top {top}, bottom {bottom}, north {north}, south {south}, east {east}, west {west}");
    let (mut path, mut seen) = (Vec::new(), Vec::new());
    for _ in 0..rolls {
        let direction = rng.pick(&["north", "south", "east", "west"]);
        // The top goes to the side it rolls to, that side to the bottom, and so on around.
        match direction {
            "north" => [north, bottom, south, top] = [top, north, bottom, south],
            "south" => [south, bottom, north, top] = [top, south, bottom, north],
            "east" => [east, bottom, west, top] = [top, east, bottom, west],
            _ => [west, bottom, east, top] = [top, west, bottom, east],
        }
        path.push(direction);
        seen.push(format!("{top}{north}{east}"));
    }
    let question = format!(
        "A cube has the sides {start}. It rolls over its edge to the {}. Which letters are now at the top, north and east?",
        path.join(", ")
    );
    Draft::new(question, format!("{top}{north}{east}")).worked(seen.join(","))
}

const THINGS: [&str; 32] = [
    "apples", "bells", "boats", "books", "bread", "cats", "chess", "cities", "clouds", "dance", "drums",
    "fish", "games", "hats", "hills", "horses", "islands", "jazz", "lakes", "maps", "milk", "music", "owls",
    "pears", "poems", "rain", "rivers", "snow", "stars", "tea", "trains", "trees",
];

fn haystack(rng: &mut Rng, [people, ..]: Parameters) -> Draft {
    let mut things = THINGS.to_vec();
    rng.shuffle(&mut things);
    let mut names: Vec<String> = Vec::new();
    while names.len() < people as usize {
        let name = word(rng, 4);
        let name = name[..1].to_uppercase() + &name[1..];
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let facts: Vec<String> =
        names.iter().zip(&things).map(|(name, thing)| format!("{name} likes {thing}.")).collect();
    let asked = rng.index(names.len());
    Draft::new(format!("{} Who likes {}?", facts.join(" "), things[asked]), &names[asked])
}

/// Worked by the order after each swap.
fn swaps(rng: &mut Rng, [things, swaps, _]: Parameters) -> Draft {
    let mut row: Vec<char> = (0..things as usize).map(capital).collect();
    rng.shuffle(&mut row);
    let start: String = row.iter().collect();
    let (mut moves, mut orders) = (Vec::new(), Vec::new());
    for _ in 0..swaps {
        let places = super::draw::distinct(rng, 2, 1, things);
        row.swap(places[0] as usize - 1, places[1] as usize - 1);
        moves.push(format!("{} and {}", places[0], places[1]));
        orders.push(row.iter().collect::<String>());
    }
    let question = format!(
        "Cups stand in the order {start}. These places are swapped: {}. The order now?",
        moves.join(", ")
    );
    Draft::new(question, join(&row, "")).worked(orders.join(","))
}

/// Worked by the faces seen from above, from north and south, from east and west.
fn block_faces(rng: &mut Rng, [height, width, highest]: Parameters) -> Draft {
    let stacks: Vec<Vec<i64>> =
        (0..height).map(|_| (0..width).map(|_| rng.between(0, highest)).collect()).collect();
    let at = |row: i64, column: i64| -> i64 {
        let inside = (0..height).contains(&row) && (0..width).contains(&column);
        if inside { stacks[row as usize][column as usize] } else { 0 }
    };
    let cells = || (0..height).flat_map(|row| (0..width).map(move |column| (row, column)));
    let sides = |down: i64, right: i64| -> i64 {
        cells().map(|(r, c)| (at(r, c) - at(r + down, c + right)).max(0)).sum()
    };
    let top = cells().filter(|(row, column)| at(*row, *column) > 0).count() as i64;
    let (north_south, east_west) = (sides(1, 0) + sides(-1, 0), sides(0, 1) + sides(0, -1));
    let rows: Vec<String> = stacks.iter().map(|row| join(row, " ")).collect();
    let question = format!(
        "Stacks of cubes stand side by side on a table, with these heights: {}. How many cube faces touch neither a cube nor the table?",
        rows.join(" / ")
    );
    Draft::new(question, top + north_south + east_west).worked(format!("{top},{north_south},{east_west}"))
}
