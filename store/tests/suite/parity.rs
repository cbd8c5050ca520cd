//! Both engines have the same schema: tables, columns, keys, indexes.

use crate::engine::{Engine, Outside};
use crate::harness::cases;

cases! {
    OnlyPostgres:
        both_engines_have_the_same_columns,
        both_engines_have_the_same_primary_keys,
        both_engines_have_the_same_indexes,
        postgres_texts_compare_by_bytes;
}

/// The same question to both engines, each in its own words; the answers are rows in the same order.
struct Question {
    sqlite: &'static str,
    postgres: &'static str,
}

/// Table, position, column, type, whether NULL is allowed.
const COLUMNS: Question = Question {
    sqlite: "SELECT t.name, c.cid + 1, c.name,
                    CASE c.type WHEN 'BIGINT' THEN 'INTEGER' ELSE c.type END,
                    CASE WHEN c.\"notnull\" <> 0 OR c.pk <> 0 THEN 'NOT NULL' ELSE 'NULL' END
             FROM sqlite_schema t JOIN pragma_table_info(t.name) c
             WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY 1, 2",
    // A column that was dropped leaves a gap in PostgreSQL's numbers.
    postgres: "SELECT table_name,
                      row_number() OVER (PARTITION BY table_name ORDER BY ordinal_position), column_name,
                      CASE data_type WHEN 'bigint' THEN 'INTEGER' WHEN 'bytea' THEN 'BLOB'
                                     WHEN 'text' THEN 'TEXT' ELSE data_type END,
                      CASE is_nullable WHEN 'NO' THEN 'NOT NULL' ELSE 'NULL' END
               FROM information_schema.columns WHERE table_schema = 'public'
               ORDER BY table_name COLLATE \"C\", ordinal_position",
};

/// Table, position in the key, column.
const PRIMARY_KEYS: Question = Question {
    sqlite: "SELECT t.name, c.pk, c.name FROM sqlite_schema t JOIN pragma_table_info(t.name) c
             WHERE t.type = 'table' AND c.pk > 0 ORDER BY 1, 2",
    postgres: "SELECT t.relname, k.at, a.attname
               FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid
               JOIN pg_namespace n ON n.oid = t.relnamespace AND n.nspname = 'public'
               CROSS JOIN unnest(i.indkey::int[]) WITH ORDINALITY AS k(attnum, at)
               JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.attnum
               WHERE i.indisprimary ORDER BY t.relname::text COLLATE \"C\", k.at",
};

/// Table, index, uniqueness, position in the index, column, condition of a partial index.
const INDEXES: Question = Question {
    sqlite: "SELECT t.name, i.name, CASE i.\"unique\" WHEN 1 THEN 'UNIQUE' ELSE '' END, c.seqno + 1, c.name,
                    CASE i.partial WHEN 1 THEN substr(s.sql, instr(s.sql, 'WHERE ') + 6) ELSE '' END
             FROM sqlite_schema t JOIN pragma_index_list(t.name) i JOIN pragma_index_info(i.name) c
             LEFT JOIN sqlite_schema s ON s.type = 'index' AND s.name = i.name
             WHERE t.type = 'table' AND i.origin <> 'pk' ORDER BY 1, 2, 4",
    postgres:
        "SELECT t.relname, x.relname, CASE WHEN i.indisunique THEN 'UNIQUE' ELSE '' END, k.at, a.attname,
                      COALESCE(replace(btrim(pg_get_expr(i.indpred, i.indrelid), '()'), ') AND (', ' AND '), '')
               FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid
               JOIN pg_namespace n ON n.oid = t.relnamespace AND n.nspname = 'public'
               CROSS JOIN unnest(i.indkey::int[]) WITH ORDINALITY AS k(attnum, at)
               LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.attnum
               WHERE NOT i.indisprimary
               ORDER BY t.relname::text COLLATE \"C\", x.relname::text COLLATE \"C\", k.at",
};

/// Asks both engines, freshly migrated, and compares.
fn compare(postgres: &Engine, question: &Question, rows_min: usize) {
    let sqlite = Engine::sqlite();
    drop(sqlite.open());
    drop(postgres.open());
    let left = ask(sqlite.outside(), question.sqlite);
    let right = ask(postgres.outside(), question.postgres);
    assert!(left.len() >= rows_min, "the question finds something: {left:?}");
    let only_sqlite: Vec<&String> = left.iter().filter(|row| !right.contains(row)).collect();
    let only_postgres: Vec<&String> = right.iter().filter(|row| !left.contains(row)).collect();
    assert!(
        only_sqlite.is_empty() && only_postgres.is_empty(),
        "only on SQLite: {only_sqlite:#?}\nonly on PostgreSQL: {only_postgres:#?}"
    );
    assert_eq!(left, right);
}

fn ask(mut outside: Outside, sql: &str) -> Vec<String> {
    outside.rows(sql).into_iter().map(|row| row.join(" | ")).collect()
}

fn both_engines_have_the_same_columns(postgres: &Engine) {
    compare(postgres, &COLUMNS, 80);
}

fn both_engines_have_the_same_primary_keys(postgres: &Engine) {
    compare(postgres, &PRIMARY_KEYS, 10);
}

fn both_engines_have_the_same_indexes(postgres: &Engine) {
    compare(postgres, &INDEXES, 15);
}

/// SQLite compares texts by their bytes; a locale on PostgreSQL would order and match otherwise.
fn postgres_texts_compare_by_bytes(postgres: &Engine) {
    drop(postgres.open());
    let others = ask(
        postgres.outside(),
        "SELECT table_name, column_name FROM information_schema.columns
         WHERE table_schema = 'public' AND data_type = 'text' AND table_name <> 'migration'
           AND collation_name IS DISTINCT FROM 'C'",
    );
    assert_eq!(others, [""; 0]);
}
