// Package snapshot is the domain: datasets, manifests, directory trees, references, differences and history.
package snapshot
