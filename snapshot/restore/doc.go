// Package restore copies a snapshot, or a part of it, to a destination tree or a tar stream.
package restore
