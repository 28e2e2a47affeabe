package snapshot

import (
	"fmt"
	"time"

	"snapfs/store"
)

// TagSuspicious is the tag of snapshots whose source changed as it never did before: package backup gives it, and package retention
// keeps what was before.
const TagSuspicious = "suspicious"

// Summary is what lists show of a snapshot without reading its manifest: it stands in the commit fact.
type Summary struct {
	Host        string
	User        string
	Paths       []string
	Parent      store.ID
	End         time.Time
	Offset      int // seconds east of UTC
	Entries     uint64
	Bytes       uint64
	BytesStored uint64
	Errors      uint64
	Single      bool
	HasXattrs   bool       // some entry has extended attributes: decides mount --xattrs auto
	XattrKinds  XattrKinds // zero with HasXattrs: any
	Program     string
	Activity    Activity

	// Origin of an import; zero otherwise.
	OriginStore    string
	OriginSnapshot store.ID
}

// Activity is how much a backup found changed against its parent: what later ones are compared with. Zero in what older
// programs wrote, and in snapshots without a parent. Names are those of non-directories.
type Activity struct {
	New, Changed, Unchanged, Removed uint64
	Rewritten                        uint64 // files whose content begins otherwise than before
	Novel                            uint64 // new files whose content the store had not
	Dense                            uint64 // of both, those with content new to the store that looks random
}

// Before is how many names the parent had.
func (a Activity) Before() uint64 { return a.Changed + a.Unchanged + a.Removed }

// Fields of a summary. On disk; append only.
const (
	summaryHost        store.Tag = 1
	summaryUser        store.Tag = 2
	summaryPaths       store.Tag = 3
	summaryParent      store.Tag = 4
	summaryEnd         store.Tag = 5 // as in the manifest
	summaryEndNsec     store.Tag = 6
	summaryOffset      store.Tag = 7
	summaryEntries     store.Tag = 8
	summaryBytes       store.Tag = 9
	summaryBytesStored store.Tag = 10
	summaryErrors      store.Tag = 11
	summarySingle      store.Tag = 12
	summaryHasXattrs   store.Tag = 13
	summaryProgram     store.Tag = 14
	summaryNew         store.Tag = 15 // 15 to 21: activity
	summaryChanged     store.Tag = 16
	summaryUnchanged   store.Tag = 17
	summaryRemoved     store.Tag = 18
	summaryRewritten   store.Tag = 19
	summaryNovel       store.Tag = 20
	summaryDense       store.Tag = 21
	summaryXattrKinds  store.Tag = 30

	summaryOriginStore    store.Tag = 31
	summaryOriginSnapshot store.Tag = 32
)

// Encode gives the form for store.Commit.Summary.
func (s *Summary) Encode() []byte {
	f := store.AppendFields(nil)
	f.String(summaryHost, s.Host)
	f.String(summaryUser, s.User)
	f.Strings(summaryPaths, s.Paths)
	f.ID(summaryParent, s.Parent)
	putTime(&f, summaryEnd, summaryEndNsec, s.End)
	f.Int(summaryOffset, int64(s.Offset))
	f.Uint(summaryEntries, s.Entries)
	f.Uint(summaryBytes, s.Bytes)
	f.Uint(summaryBytesStored, s.BytesStored)
	f.Uint(summaryErrors, s.Errors)
	f.Bool(summarySingle, s.Single)
	f.Bool(summaryHasXattrs, s.HasXattrs)
	f.String(summaryProgram, s.Program)
	f.Uint(summaryNew, s.Activity.New)
	f.Uint(summaryChanged, s.Activity.Changed)
	f.Uint(summaryUnchanged, s.Activity.Unchanged)
	f.Uint(summaryRemoved, s.Activity.Removed)
	f.Uint(summaryRewritten, s.Activity.Rewritten)
	f.Uint(summaryNovel, s.Activity.Novel)
	f.Uint(summaryDense, s.Activity.Dense)
	f.Uint(summaryXattrKinds, uint64(s.XattrKinds))
	f.String(summaryOriginStore, s.OriginStore)
	f.ID(summaryOriginSnapshot, s.OriginSnapshot)
	return f.Encoded()
}

// ParseSummary is the inverse of Encode.
func ParseSummary(data []byte) (*Summary, error) {
	s, _, err := decodeSummary(data)
	if err != nil {
		return nil, fmt.Errorf("summary: %w", err)
	}
	return s, nil
}

// decodeSummary also reports whether it skipped unknown fields.
func decodeSummary(data []byte) (s *Summary, skipped bool, err error) {
	s = new(Summary)
	var end instant
	r := store.ReadFields(data)
	for r.Next() {
		switch r.Tag() {
		case summaryHost:
			s.Host = r.String()
		case summaryUser:
			s.User = r.String()
		case summaryPaths:
			s.Paths = r.Strings()
		case summaryParent:
			s.Parent = r.ID()
		case summaryEnd:
			end.sec = r.Uint()
		case summaryEndNsec:
			end.nsec = r.Uint()
		case summaryOffset:
			s.Offset = int(r.Int())
		case summaryEntries:
			s.Entries = r.Uint()
		case summaryBytes:
			s.Bytes = r.Uint()
		case summaryBytesStored:
			s.BytesStored = r.Uint()
		case summaryErrors:
			s.Errors = r.Uint()
		case summarySingle:
			s.Single = r.Bool()
		case summaryHasXattrs:
			s.HasXattrs = r.Bool()
		case summaryProgram:
			s.Program = r.String()
		case summaryXattrKinds:
			s.XattrKinds = XattrKinds(r.Uint32())
		case summaryOriginStore:
			s.OriginStore = r.String()
		case summaryOriginSnapshot:
			s.OriginSnapshot = r.ID()
		default:
			if !s.Activity.decode(&r) {
				r.Unknown()
			}
		}
	}
	if err := r.Err(); err != nil {
		return nil, false, err
	}
	if s.End, err = end.time(); err != nil {
		return nil, false, err
	}
	return s, r.Skipped(), nil
}

// decode takes the field at hand, if it is one of these.
func (a *Activity) decode(r *store.FieldReader) bool {
	switch r.Tag() {
	case summaryNew:
		a.New = r.Uint()
	case summaryChanged:
		a.Changed = r.Uint()
	case summaryUnchanged:
		a.Unchanged = r.Uint()
	case summaryRemoved:
		a.Removed = r.Uint()
	case summaryRewritten:
		a.Rewritten = r.Uint()
	case summaryNovel:
		a.Novel = r.Uint()
	case summaryDense:
		a.Dense = r.Uint()
	default:
		return false
	}
	return true
}
