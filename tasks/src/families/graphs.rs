//! Paths, trees, orders, relations.

use std::collections::BTreeSet;

use super::draw::{beside, capital, join, rows};
use super::{Category, Draft, Family, Parameters};
use crate::form::Form;
use crate::rng::Rng;

pub(super) const FAMILIES: &[Family] = &[
    Category::Graphs.family(
        "shortest-path",
        Form::Integer,
        "The length of the shortest path between two towns.",
        &[
            ("towns", [5, 6, 7, 8, 10]),
            ("more roads than a tree", [2, 3, 5, 7, 10]),
            ("longest road", [9, 20, 30, 50, 99]),
        ],
        shortest_path,
    ),
    Category::Graphs.family(
        "spanning-tree",
        Form::Integer,
        "The least total length of roads that connect all towns.",
        &[
            ("towns", [4, 5, 6, 7, 9]),
            ("more roads than a tree", [2, 3, 4, 6, 9]),
            ("longest road", [20, 30, 30, 50, 99]),
        ],
        spanning_tree,
    ),
    Category::Graphs.family(
        "course-order",
        Form::Text,
        "The alphabetically first order of courses that respects what each one needs.",
        &[("courses", [6, 6, 7, 8, 10]), ("needs", [5, 7, 8, 10, 14])],
        course_order,
    ),
    Category::Graphs.family(
        "kinship",
        Form::Text,
        "What one member of a family is to another.",
        &[("people", [6, 7, 9, 11, 14])],
        kinship,
    ),
    Category::Graphs.family(
        "path-count",
        Form::Integer,
        "How many paths lead from the first to the last point along one-way roads.",
        &[("points", [7, 8, 9, 10, 12])],
        path_count,
    ),
    Category::Graphs.family(
        "largest-island",
        Form::Integer,
        "The area of the largest island on a map.",
        &[("side", [6, 7, 8, 9, 12])],
        largest_island,
    ),
    Category::Graphs.family(
        "max-flow",
        Form::Integer,
        "The most that can flow from the first to the last point through pipes of given capacity.",
        &[("points", [4, 5, 6, 7, 8]), ("largest capacity", [20, 20, 20, 30, 60])],
        max_flow,
    ),
];

type Road = (usize, usize, i64);

/// A random tree with `more` roads added, no two between the same towns.
fn connected(rng: &mut Rng, towns: i64, more: i64, longest: i64) -> Vec<Road> {
    let towns = towns as usize;
    let mut pairs: BTreeSet<(usize, usize)> = (1..towns).map(|town| (rng.index(town), town)).collect();
    while pairs.len() < (towns - 1 + more as usize).min(towns * (towns - 1) / 2) {
        let (a, b) = (rng.index(towns), rng.index(towns));
        if a != b {
            pairs.insert((a.min(b), a.max(b)));
        }
    }
    let mut roads: Vec<Road> = pairs.into_iter().map(|(a, b)| (a, b, rng.between(1, longest))).collect();
    rng.shuffle(&mut roads);
    roads
}

fn listed(roads: &[Road]) -> String {
    join(
        &roads.iter().map(|(a, b, n)| format!("{}{}={n}", capital(*a), capital(*b))).collect::<Vec<_>>(),
        ", ",
    )
}

/// Lengths by relaxing all roads as often as there are towns.
fn shortest_path(rng: &mut Rng, [towns, more, longest]: Parameters) -> Draft {
    let roads = connected(rng, towns, more, longest);
    let start = rng.index(towns as usize);
    let mut reached: Vec<Option<i64>> = vec![None; towns as usize];
    reached[start] = Some(0);
    for _ in 0..towns {
        for (a, b, length) in &roads {
            for (from, to) in [(*a, *b), (*b, *a)] {
                let via = reached[from].map(|so_far| so_far + length);
                reached[to] = [reached[to], via].into_iter().flatten().min();
            }
        }
    }
    // The farthest town: a neighbour's distance would often stand in the question.
    let far =
        (0..towns as usize).filter(|town| *town != start).max_by_key(|town| reached[*town]).unwrap_or(0);
    let question = format!(
        "Two-way roads with lengths: {}. Length of the shortest path from {} to {}?",
        listed(&roads),
        capital(start),
        capital(far)
    );
    Draft::new(question, reached[far].unwrap_or(0))
}

/// By Kruskal: worked by the lengths taken, shortest first.
fn spanning_tree(rng: &mut Rng, [towns, more, longest]: Parameters) -> Draft {
    let roads = connected(rng, towns, more, longest);
    let mut sorted = roads.clone();
    sorted.sort_by_key(|(_, _, length)| *length);
    let mut group: Vec<usize> = (0..towns as usize).collect();
    let mut taken = Vec::new();
    for (a, b, length) in sorted {
        let (old, new) = (group[a], group[b]);
        if old != new {
            group.iter_mut().filter(|group| **group == old).for_each(|group| *group = new);
            taken.push(length);
        }
    }
    let question =
        format!("Possible roads with lengths: {}. Least total length that connects all?", listed(&roads));
    Draft::new(question, taken.iter().sum::<i64>()).worked(join(&taken, "+"))
}

/// Needs go from earlier to later in a hidden order.
fn course_order(rng: &mut Rng, [courses, needs, _]: Parameters) -> Draft {
    let courses = courses as usize;
    let mut hidden: Vec<usize> = (0..courses).collect();
    rng.shuffle(&mut hidden);
    let mut pairs = BTreeSet::new();
    while pairs.len() < needs as usize {
        let (a, b) = (rng.index(courses), rng.index(courses));
        if a < b {
            pairs.insert((hidden[a], hidden[b]));
        }
    }
    let mut listed: Vec<(usize, usize)> = pairs.iter().copied().collect();
    rng.shuffle(&mut listed);
    let mut order: Vec<usize> = Vec::new();
    while order.len() < courses {
        let ready = |course: &usize| {
            !order.contains(course) && pairs.iter().all(|(a, b)| b != course || order.contains(a))
        };
        order.extend((0..courses).find(ready));
    }
    let texts: Vec<String> =
        listed.iter().map(|(a, b)| format!("{} before {}", capital(*a), capital(*b))).collect();
    let question = format!(
        "Courses A to {}: {}. Of all orders that respect this, which is alphabetically first?",
        capital(courses - 1),
        texts.join(", ")
    );
    Draft::new(question, order.into_iter().map(capital).collect::<String>())
}

/// What X is to Y, by X's and Y's generations below their closest common ancestor; for a man, for a
/// woman.
const RELATIONS: [((usize, usize), [&str; 2]); 10] = [
    ((0, 1), ["father", "mother"]),
    ((1, 0), ["son", "daughter"]),
    ((0, 2), ["grandfather", "grandmother"]),
    ((2, 0), ["grandson", "granddaughter"]),
    ((1, 1), ["brother", "sister"]),
    ((1, 2), ["uncle", "aunt"]),
    ((2, 1), ["nephew", "niece"]),
    ((0, 3), ["great-grandfather", "great-grandmother"]),
    ((3, 0), ["great-grandson", "great-granddaughter"]),
    ((2, 2), ["cousin", "cousin"]),
];

/// Names of men (0) and women (1).
const NAMES: [(&str, usize); 20] = [
    ("Ann", 1),
    ("Ben", 0),
    ("Cleo", 1),
    ("Dan", 0),
    ("Eve", 1),
    ("Finn", 0),
    ("Gus", 0),
    ("Ida", 1),
    ("Jack", 0),
    ("Kate", 1),
    ("Leo", 0),
    ("Mary", 1),
    ("Nina", 1),
    ("Otto", 0),
    ("Paul", 0),
    ("Rose", 1),
    ("Sue", 1),
    ("Tom", 0),
    ("Vera", 1),
    ("Will", 0),
];

/// The ancestors of a person, from itself upward.
fn line(parents: &[Option<usize>], person: usize) -> Vec<usize> {
    std::iter::successors(Some(person), |person| parents[*person]).collect()
}

/// The family is a tree of people with one known parent each; the relation is drawn before the pair,
/// so that rare ones come as often.
fn kinship(rng: &mut Rng, [people, ..]: Parameters) -> Draft {
    let people = people as usize;
    loop {
        let mut names = NAMES;
        rng.shuffle(&mut names);
        let parents: Vec<Option<usize>> =
            (0..people).map(|person| (person > 0).then(|| rng.index(person))).collect();
        let (distances, words) = rng.pick(&RELATIONS);
        let related = |x: usize, y: usize| {
            let (above_x, above_y) = (line(&parents, x), line(&parents, y));
            let up = above_x.iter().position(|person| above_y.contains(person));
            let down = above_y.iter().position(|person| above_x.contains(person));
            x != y && up.zip(down) == Some(distances)
        };
        let pairs: Vec<(usize, usize)> = (0..people)
            .flat_map(|x| (0..people).map(move |y| (x, y)))
            .filter(|(x, y)| related(*x, *y))
            .collect();
        if pairs.is_empty() {
            continue;
        }
        let (x, y) = rng.pick(&pairs);
        let mut facts: Vec<String> = parents
            .iter()
            .enumerate()
            .map(|(person, parent)| match parent {
                Some(parent) => {
                    format!(
                        "{} is {}'s {}.",
                        names[person].0,
                        names[*parent].0,
                        ["son", "daughter"][names[person].1]
                    )
                }
                None => format!("{} is a {}.", names[person].0, ["man", "woman"][names[person].1]),
            })
            .collect();
        rng.shuffle(&mut facts);
        let question = format!("{} What is {} to {}?", facts.join(" "), names[x].0, names[y].0);
        return Draft::new(question, words[names[x].1]);
    }
}

/// Worked by the paths from the first point to each point, in order.
fn path_count(rng: &mut Rng, [count, ..]: Parameters) -> Draft {
    let count = count as usize;
    loop {
        let mut roads = Vec::new();
        for to in 1..count {
            roads.extend((0..to).filter(|_| rng.below(5) < 3).map(|from| (from, to)));
        }
        let mut paths = vec![1_i64];
        for to in 1..count {
            paths.push(roads.iter().filter(|(_, end)| *end == to).map(|(from, _)| paths[*from]).sum());
        }
        if paths[count - 1] > 1 {
            rng.shuffle(&mut roads);
            let texts: Vec<String> =
                roads.iter().map(|(a, b)| format!("{}{}", capital(*a), capital(*b))).collect();
            let question = format!(
                "One-way roads: {}. How many paths lead from A to {}?",
                texts.join(", "),
                capital(count - 1)
            );
            return Draft::new(question, paths[count - 1]).worked(join(&paths, ","));
        }
    }
}

/// Cells of land connected with a cell, which are turned to water.
fn sink(grid: &mut [Vec<u8>], row: usize, column: usize) -> i64 {
    if row >= grid.len() || column >= grid.len() || grid[row][column] != b'#' {
        return 0;
    }
    grid[row][column] = b'.';
    1 + beside(row, column).into_iter().map(|(r, c)| sink(grid, r, c)).sum::<i64>()
}

/// Worked by the area of each island, in the order of reading.
fn largest_island(rng: &mut Rng, [side, ..]: Parameters) -> Draft {
    loop {
        let land = rng.between(8, 11);
        let cell = |rng: &mut Rng| if rng.between(1, 20) <= land { b'#' } else { b'.' };
        let mut grid: Vec<Vec<u8>> = (0..side).map(|_| (0..side).map(|_| cell(rng)).collect()).collect();
        let text = rows(&grid).join(" ");
        let cells = (0..side as usize).flat_map(|row| (0..side as usize).map(move |column| (row, column)));
        let areas: Vec<i64> =
            cells.map(|(row, column)| sink(&mut grid, row, column)).filter(|area| *area > 0).collect();
        if let Some(largest) = areas.iter().max() {
            let question = format!(
                "Cells of land (#) that touch by a side form an island. Cells of the largest one? Rows: {text}"
            );
            return Draft::new(question, largest).worked(join(&areas, ","));
        }
    }
}

/// A path with room along unused capacity is filled until there is none. Worked by what each path adds.
fn max_flow(rng: &mut Rng, [count, largest, _]: Parameters) -> Draft {
    let count = count as usize;
    loop {
        let mut room = vec![vec![0_i64; count]; count];
        let mut pipes = Vec::new();
        for (a, b) in (0..count - 1).flat_map(|a| (1..count).map(move |b| (a, b))) {
            if a != b && room[b][a] == 0 && rng.below(3) > 0 {
                room[a][b] = rng.between(1, largest);
                pipes.push((a, b, room[a][b]));
            }
        }
        let mut added = Vec::new();
        while let Some(path) = path_with_room(&room, &mut vec![0]) {
            let most = path.windows(2).map(|pair| room[pair[0]][pair[1]]).min().unwrap_or(0);
            for pair in path.windows(2) {
                room[pair[0]][pair[1]] -= most;
                room[pair[1]][pair[0]] += most;
            }
            added.push(most);
        }
        if added.len() > 1 {
            rng.shuffle(&mut pipes);
            let question = format!(
                "One-way pipes with capacities: {}. Greatest flow from A to {}?",
                listed(&pipes),
                capital(count - 1)
            );
            return Draft::new(question, added.iter().sum::<i64>()).worked(join(&added, "+"));
        }
    }
}

/// A path from the end of `path` to the last point through pipes that have room.
fn path_with_room(room: &[Vec<i64>], path: &mut Vec<usize>) -> Option<Vec<usize>> {
    let here = *path.last()?;
    if here + 1 == room.len() {
        return Some(path.clone());
    }
    for next in 0..room.len() {
        if room[here][next] > 0 && !path.contains(&next) {
            path.push(next);
            if let Some(found) = path_with_room(room, path) {
                return Some(found);
            }
            path.pop();
        }
    }
    None
}
