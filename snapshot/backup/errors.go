package backup

import "errors"

var (
	// ErrNothingSaved: none of the paths could be read; no snapshot was made.
	ErrNothingSaved = errors.New("nothing could be saved")
	// ErrNewSource: the dataset's newest snapshot has another host or other paths.
	ErrNewSource = errors.New("the dataset's newest snapshot has another host or other paths")
	// ErrEmptyStream: the stream was empty and AllowEmpty was not set.
	ErrEmptyStream = errors.New("the stream is empty")
	// ErrStreamName: the name of a stream's file is empty, has slashes, or is "." or "..".
	ErrStreamName = errors.New("not a name for a stream's file")
	// ErrDatasetNeeded: several paths and no dataset name.
	ErrDatasetNeeded = errors.New("several paths need a dataset name")
	// ErrDatasetName: the name breaks the rules for dataset names.
	ErrDatasetName = errors.New("not a dataset name")
)
