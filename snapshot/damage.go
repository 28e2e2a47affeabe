package snapshot

import (
	"context"
	"errors"
	"fmt"

	"snapfs/store"
)

// damage collects errors about stored data, so that what is intact can be shown all the same.
type damage struct {
	errs []error
	more int
}

// mostDamage bounds how many errors are kept: a lost volume may be missed in every directory.
const mostDamage = 100

// take keeps err if it is about stored data, and reports whether it did.
func (d *damage) take(ctx context.Context, err error) bool {
	if ctx.Err() != nil || !isDamage(err) {
		return false
	}
	if len(d.errs) < mostDamage {
		d.errs = append(d.errs, err)
	} else {
		d.more++
	}
	return true
}

// err joins what was collected; nil if nothing was.
func (d *damage) err() error {
	errs := d.errs
	if d.more > 0 {
		errs = append(errs, fmt.Errorf("%d more errors of this kind", d.more))
	}
	return errors.Join(errs...)
}

func isDamage(err error) bool {
	var corrupt *store.CorruptError
	var missing *store.MissingError
	return errors.As(err, &corrupt) || errors.As(err, &missing) || errors.Is(err, ErrMalformed)
}
