//! The tables of a dataset as Parquet, for programs that read nothing else.
//!
//! They say what the JSON Lines say and are made from those; the dataset's address does not cover them, since their
//! bytes depend on the version of the library that writes them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use ::parquet::basic::{LogicalType, Repetition, Type as Physical};
use ::parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, Int64Type};
use ::parquet::errors::ParquetError;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter, SerializedRowGroupWriter};
use ::parquet::schema::types::Type;
use anyhow::Context;
use serde_json::{Map, Value};

use super::tables::{BOOL, Column, INTEGER, TABLES, Table, columns};

/// Rows that are written, and held in memory, at once.
const GROUP_ROWS: usize = 1 << 16;

/// Writes `parquet/NAME.parquet` for each table in `data/`.
///
/// # Errors
/// A directory that cannot be written.
pub(super) fn write(dir: &Path) -> anyhow::Result<()> {
    let out = dir.join("parquet");
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    for table in &TABLES {
        let from = dir.join(format!("data/{}.jsonl", table.name));
        // A table without rows has no file.
        if from.exists() {
            let to = out.join(format!("{}.parquet", table.name));
            convert(table, &from, &to).with_context(|| format!("cannot write {}", to.display()))?;
        }
    }
    Ok(())
}

fn convert(table: &Table, from: &Path, to: &Path) -> anyhow::Result<()> {
    let fields: Result<Vec<_>, _> = columns(table).map(field).collect();
    let schema = Type::group_type_builder(table.name).with_fields(fields?).build()?;
    let properties = WriterProperties::builder().set_created_by("murmur".into()).build();
    let mut writer =
        SerializedFileWriter::new(File::create_new(to)?, Arc::new(schema), Arc::new(properties))?;
    let mut lines = BufReader::new(File::open(from)?).lines();
    loop {
        let rows: Vec<Map<String, Value>> = lines
            .by_ref()
            .take(GROUP_ROWS)
            .map(|line| Ok(serde_json::from_str(&line?)?))
            .collect::<anyhow::Result<_>>()?;
        if rows.is_empty() {
            break;
        }
        let mut group = writer.next_row_group()?;
        columns(table).try_for_each(|column| write_column(&mut group, column, &rows))?;
        group.close()?;
    }
    writer.close()?;
    Ok(())
}

/// Any value may be missing.
fn field((name, kind, _): &Column) -> Result<Arc<Type>, ParquetError> {
    let (physical, logical) = match *kind {
        INTEGER => (Physical::INT64, None),
        BOOL => (Physical::BOOLEAN, None),
        _ => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
    };
    let built = Type::primitive_type_builder(name, physical).with_repetition(Repetition::OPTIONAL);
    built.with_logical_type(logical).build().map(Arc::new)
}

fn write_column(
    group: &mut SerializedRowGroupWriter<'_, File>,
    (name, kind, _): &Column,
    rows: &[Map<String, Value>],
) -> anyhow::Result<()> {
    let column = group.next_column()?.with_context(|| format!("no column {name}"))?;
    let values: Vec<Option<&Value>> =
        rows.iter().map(|row| row.get(*name).filter(|value| !value.is_null())).collect();
    match *kind {
        INTEGER => write_values::<Int64Type>(column, &values, |value| value.as_i64()),
        BOOL => write_values::<BoolType>(column, &values, |value| value.as_bool()),
        _ => write_values::<ByteArrayType>(column, &values, |value| value.as_str().map(ByteArray::from)),
    }
}

fn write_values<T: DataType>(
    mut column: SerializedColumnWriter<'_>,
    values: &[Option<&Value>],
    read: impl Fn(&Value) -> Option<T::T>,
) -> anyhow::Result<()> {
    let present: Option<Vec<T::T>> = values.iter().flatten().map(|value| read(value)).collect();
    let present = present.context("a value of another type than its column's")?;
    let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
    column.typed::<T>().write_batch(&present, Some(&levels), None)?;
    column.close()?;
    Ok(())
}
