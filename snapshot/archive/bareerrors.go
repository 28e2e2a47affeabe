package archive

import "errors"

// Reading sets.
var (
	// ErrNoVolume: no volume of an archive set there.
	ErrNoVolume = errors.New("no volume of an archive set")
)
