package backup

import (
	"context"

	"snapfs/snapshot"
	"snapfs/store"
)

// damagedBlobs are those the store knows to be damaged. What names one counts as changed: the file is read again, the
// page encoded again, and both are stored anew under the same ID, which mends every snapshot that names them.
type damagedBlobs map[store.ID]struct{}

func askDamaged(ctx context.Context, repo repository) (damagedBlobs, error) {
	ids, err := repo.DamagedBlobs(ctx)
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	d := make(damagedBlobs, len(ids))
	for _, id := range ids {
		d[id] = struct{}{}
	}
	return d, nil
}

func (d damagedBlobs) has(id store.ID) bool {
	_, ok := d[id]
	return ok
}

// hit reports whether content or attributes of an entry are damaged.
func (d damagedBlobs) hit(ctx context.Context, tree *snapshot.Tree, e *snapshot.Entry) bool {
	if len(d) == 0 || e == nil {
		return false
	}
	if d.has(e.XattrsID) {
		return true
	}
	found := false
	err := tree.Items(ctx, e, 0, func(_ int64, it snapshot.Item) bool {
		found = d.has(it.ID)
		return !found
	})
	return found || err != nil // a page of the list is damaged
}

// hurt is hit for a walker. Damage rarely comes alone, and nothing but reading shows it: the other chunks of the file are read, so
// that the store gets back all of them that are damaged.
func (w *walker) hurt(tree *snapshot.Tree, e *snapshot.Entry) bool {
	if !w.r.damaged.hit(w.ctx, tree, e) {
		return false
	}
	var buf []byte
	_ = tree.Items(w.ctx, e, 0, func(_ int64, it snapshot.Item) bool {
		if it.ID != noNode && !w.r.damaged.has(it.ID) {
			if data, err := w.r.repo.GetInto(w.ctx, store.KindChunk, it.ID, buf); err == nil { // an error has been noted
				buf = data[:0]
			}
		}
		return w.ctx.Err() == nil
	})
	return true
}

// checkedWriter believes in no blob that the store has, once the run has met damage: what nobody has read may be damaged as well, and
// what is found so is stored anew.
type checkedWriter struct {
	blobWriter
	r   *run
	buf []byte
}

func (r *run) newWriter() blobWriter { return &checkedWriter{blobWriter: r.repo.newWriter(), r: r} }

// Put stores a blob, unless the store has it whole.
func (w *checkedWriter) Put(ctx context.Context, kind store.Kind, data []byte) (store.ID, error) {
	if !w.r.job.metDamage.Load() || w.r.mending != nil { // that stores nothing but what is known to be damaged
		return w.blobWriter.Put(ctx, kind, data)
	}
	id := w.r.repo.BlobID(kind, data)
	have, err := w.r.repo.Have(ctx, []store.ID{id})
	if err != nil {
		return id, err
	}
	if have[0] {
		if data, err := w.r.repo.GetInto(ctx, kind, id, w.buf); err == nil { // an error has been noted
			w.buf = data[:0]
		}
	}
	return w.blobWriter.Put(ctx, kind, data)
}

// heal keeps what was stored anew for the sake of earlier snapshots when this one is not committed.
func (r *run) heal(ctx context.Context) error {
	if len(r.damaged) == 0 {
		return nil
	}
	return r.flush(ctx)
}
