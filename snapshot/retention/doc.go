// Package retention says which snapshots of a dataset rules keep: pure functions of the snapshots, the rules, the
// present time and a zone. Nothing is read or removed here.
//
// # The rules
//
// keep-last N keeps the N newest snapshots. keep-hourly N, -daily, -weekly, -monthly and -yearly keep the newest snapshot of each
// of the N newest periods that have one: days, hours and so on without a snapshot are not counted, so a machine that
// was off for a month loses nothing by that. keep-within D keeps what is not older than D before the newest snapshot, not before the present: a
// dataset that is not backed up any more does not fade away. keep-tag T keeps what has the tag. Every rule looks at
// all snapshots of its dataset, whatever other rules keep: a snapshot is kept by as many as apply, and has as many reasons.
//
// All rules are applied twice: to all snapshots, and to those that are whole, as if there were no others. What either keeps
// is kept. So a snapshot in which paths are missing never pushes out the last one that has them, and a dataset that
// never is without errors is thinned out like any other.
//
// # What no rule removes
//
//   - a snapshot that is held
//   - the newest snapshot of the dataset, and the newest that is not dated in the future
//   - a snapshot dated in the future. It is not counted either: a clock that was wrong for a day takes no place away
//   - a snapshot tagged suspicious (package backup gives that tag when a source changed as it never did), and the last one before it,
//     and the last whole one before it: the state before the damage stays until somebody has looked and removed the
//     tag. The tagged one stays because it is what protects the one before it.
//
// # Time
//
// Periods are those of the calendar in one zone; weeks are ISO 8601 weeks, which belong to the year that has their Thursday. A
// snapshot belongs to the period its start lies in. When clocks are set back, an hour that comes twice is two hours (they have another offset from
// UTC), and a day of 25 hours is one day; a skipped hour is none. Should clocks be set back over midnight, a date that comes
// twice is one day. The order is the timeline's: start, then commit; of two snapshots with one start the one committed later is the newer.
package retention
