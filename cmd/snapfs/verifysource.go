package main

import (
	"context"
	"slices"

	"snapfs/snapshot"
	"snapfs/snapshot/backup"
	"snapfs/store"
)

// fromSource stores anew what the sources still hold. A page that is there again names what nobody missed before: so it goes on until
// nothing more is found.
func (p *program) fromSource(ctx context.Context, st *store.Store, r *reporter, v *verifyReport) error {
	tell := func(g store.VerifyProgress) {
		r.progress(func() any { return p.verifyProgress(r, g) }, func() string { return verifyLine(r, g) })
	}
	for more := true; more; {
		v.listBlobs()
		if len(v.blobs) == 0 {
			return nil
		}
		m := backup.NewMender(st, func(g backup.Progress) {
			tell(store.VerifyProgress{Phase: "source", Bytes: g.BytesRead, Findings: v.summary.Findings})
		})
		err := snapshot.FindAffected(ctx, st, func(id store.ID) bool { return v.blobs[id] != nil }, func(a snapshot.Affected) error {
			return m.Try(ctx, a)
		})
		if err == nil {
			err = m.Finish(ctx)
		}
		if err != nil {
			return err
		}
		if more = v.mended(m); more {
			if more, err = v.lookAgain(ctx, st, tell); err != nil {
				return err
			}
		}
	}
	return nil
}

// mended takes the blobs off the findings that were stored anew, and reports whether nodes were among them. Findings are healed when
// nothing of them is left.
func (v *verifyReport) mended(m *backup.Mender) (nodes bool) {
	for i := range v.findings {
		f := &v.findings[i]
		before := len(f.Blobs)
		f.Blobs = slices.DeleteFunc(f.Blobs, func(b store.VerifiedBlob) bool {
			mended := m.Mended(b.ID)
			nodes = nodes || mended && b.Kind != store.KindChunk
			v.stored = v.stored || mended
			return mended
		})
		if before > 0 && len(f.Blobs) == 0 && !f.Healed {
			f.Healed = true
			f.Text += "; stored anew from the source"
			v.summary.Healed++
		}
	}
	return nodes
}

// lookAgain adds what is found lost only now, and reports whether there is any.
func (v *verifyReport) lookAgain(ctx context.Context, st *store.Store, tell func(store.VerifyProgress)) (more bool, err error) {
	var again verifyReport
	_, err = st.Verify(ctx, store.VerifyOptions{}, func(e store.VerifyEvent) error {
		again.take(e)
		tell(e.Progress)
		return nil
	})
	for _, f := range again.findings {
		f.Blobs = slices.DeleteFunc(f.Blobs, func(b store.VerifiedBlob) bool { return v.blobs[b.ID] != nil })
		if !f.Healed && len(f.Blobs) > 0 {
			v.findings = append(v.findings, f)
			v.summary.Findings++
			more = true
		}
	}
	return more, err
}
