// Package backup turns a source tree or a stream into a snapshot: scan, compare with the parent, chunk, commit.
package backup
