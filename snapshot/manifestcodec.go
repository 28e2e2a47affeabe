package snapshot

import (
	"time"

	"snapfs/store"
)

// Fields of a manifest. On disk; append only.
const (
	manifestDataset        store.Tag = 1
	manifestName           store.Tag = 2
	manifestHost           store.Tag = 3
	manifestUser           store.Tag = 4
	manifestPaths          store.Tag = 5
	manifestExcludes       store.Tag = 6
	manifestStart          store.Tag = 7 // zigzag seconds since 1970 + 1; left out if the time is not known
	manifestStartNsec      store.Tag = 8
	manifestEnd            store.Tag = 9
	manifestEndNsec        store.Tag = 10
	manifestOffset         store.Tag = 11
	manifestParent         store.Tag = 12
	manifestRoot           store.Tag = 13
	manifestSingle         store.Tag = 14
	manifestAbove          store.Tag = 15
	manifestLinkTree       store.Tag = 16
	manifestLinks          store.Tag = 17
	manifestFileSystems    store.Tag = 18
	manifestTotalEntries   store.Tag = 19
	manifestTotalBytes     store.Tag = 20
	manifestTotalLinked    store.Tag = 21
	manifestErrors         store.Tag = 22
	manifestErrorCount     store.Tag = 23
	manifestFound          store.Tag = 24
	manifestTags           store.Tag = 25
	manifestProgram        store.Tag = 26
	manifestUnstable       store.Tag = 27
	manifestStartedEarlier store.Tag = 28
	manifestOriginStore    store.Tag = 29
	manifestOriginSnapshot store.Tag = 30
	manifestIgnoreFiles    store.Tag = 31
	manifestExcludeCaches  store.Tag = 32
	manifestOneFileSystem  store.Tag = 33
	manifestExcludeLarger  store.Tag = 34
	manifestOnlyListed     store.Tag = 35
)

// Fields of a file system. On disk; append only.
const (
	fileSystemIndex store.Tag = 1
	fileSystemMount store.Tag = 2
	fileSystemType  store.Tag = 3
	fileSystemUUID  store.Tag = 4
)

// Fields of an error. On disk; append only.
const (
	fileErrorPath  store.Tag = 1
	fileErrorError store.Tag = 2
)

func (m *Manifest) encode() []byte {
	f := store.AppendFields(nil)
	f.String(manifestDataset, m.Dataset)
	f.String(manifestName, m.Name)
	f.String(manifestHost, m.Host)
	f.String(manifestUser, m.User)
	f.Strings(manifestPaths, m.Paths)
	f.Strings(manifestExcludes, m.Excludes)
	putTime(&f, manifestStart, manifestStartNsec, m.Start)
	putTime(&f, manifestEnd, manifestEndNsec, m.End)
	f.Int(manifestOffset, int64(m.Offset))
	f.ID(manifestParent, m.Parent)
	f.Bytes(manifestRoot, appendEntry(nil, &m.Root, inManifest, 0, nil))
	f.Bool(manifestSingle, m.Single)
	f.Bytes(manifestAbove, encodeList(m.Above, func(buf []byte, e *Entry) []byte { return appendEntry(buf, e, inManifest, 0, nil) }))
	f.ID(manifestLinkTree, m.LinkTree)
	f.Uint(manifestLinks, m.Links)
	f.Bytes(manifestFileSystems, encodeList(m.FileSystems, appendFileSystem))
	f.Uint(manifestTotalEntries, m.Totals.Entries)
	f.Uint(manifestTotalBytes, m.Totals.Bytes)
	f.Uint(manifestTotalLinked, m.Totals.Linked)
	kept := keptErrors(m.Errors)
	f.Bytes(manifestErrors, encodeList(m.Errors[:kept], appendFileError))
	f.Uint(manifestErrorCount, max(m.ErrorCount, uint64(len(m.Errors))))
	f.String(manifestFound, m.Found)
	f.Strings(manifestTags, m.Tags)
	f.String(manifestProgram, m.Program)
	f.Uint(manifestUnstable, m.Unstable)
	f.Bool(manifestStartedEarlier, m.StartedEarlier)
	f.String(manifestOriginStore, m.OriginStore)
	f.ID(manifestOriginSnapshot, m.OriginSnapshot)
	f.Bool(manifestIgnoreFiles, m.IgnoreFiles)
	f.Bool(manifestExcludeCaches, m.ExcludeCaches)
	f.Bool(manifestOneFileSystem, m.OneFileSystem)
	f.Uint(manifestExcludeLarger, uint64(m.ExcludeLargerThan))
	f.Bool(manifestOnlyListed, m.OnlyListed)
	return f.Encoded()
}

// putTime adds an instant; its zone is not kept.
func putTime(f *store.Fields, sec, nsec store.Tag, t time.Time) {
	if !t.IsZero() {
		s := t.Unix()
		f.Uint(sec, (uint64(s)<<1^uint64(s>>63))+1)
		f.Uint(nsec, uint64(t.Nanosecond()))
	}
}

// instant is a time being read.
type instant struct{ sec, nsec uint64 }

func (i instant) time() (time.Time, error) {
	if i.sec == 0 && i.nsec == 0 {
		return time.Time{}, nil
	}
	v := i.sec - 1
	t := time.Unix(int64(v>>1)^-int64(v&1), int64(i.nsec)).UTC()
	if i.sec == 0 || i.nsec > 999_999_999 || t.IsZero() {
		return t, malformed("impossible time")
	}
	return t, nil
}

func encodeList[T any](list []T, encode func([]byte, *T) []byte) []byte {
	var buf, one []byte
	for i := range list {
		one = encode(one[:0], &list[i])
		buf = store.AppendBytes(buf, one)
	}
	return buf
}

func decodeList[T any](data []byte, decode func([]byte) (T, error)) (list []T, err error) {
	for len(data) > 0 {
		var one []byte
		if one, data, err = store.CutBytes(data); err != nil {
			return nil, err
		}
		v, err := decode(one)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

// manifestDecoder is a manifest being read.
type manifestDecoder struct {
	m          *Manifest
	start, end instant
	skipped    bool
}

// decodeManifest also reports whether it skipped unknown fields.
func decodeManifest(data []byte) (m *Manifest, skipped bool, err error) {
	d := manifestDecoder{m: new(Manifest)}
	r := store.ReadFields(data)
	for r.Next() {
		if err := d.field(&r); err != nil {
			return nil, false, err
		}
	}
	if err := r.Err(); err != nil {
		return nil, false, err
	}
	if d.m.Start, err = d.start.time(); err != nil {
		return nil, false, err
	}
	if d.m.End, err = d.end.time(); err != nil {
		return nil, false, err
	}
	if err := d.m.check(); err != nil {
		return nil, false, malformed("%v", err)
	}
	if keptErrors(d.m.Errors) != len(d.m.Errors) || d.m.ErrorCount < uint64(len(d.m.Errors)) {
		return nil, false, malformed("more errors than allowed")
	}
	return d.m, d.skipped || r.Skipped(), nil
}

func (d *manifestDecoder) field(r *store.FieldReader) (err error) {
	m := d.m
	switch r.Tag() {
	case manifestDataset:
		m.Dataset = r.String()
	case manifestName:
		m.Name = r.String()
	case manifestHost:
		m.Host = r.String()
	case manifestUser:
		m.User = r.String()
	case manifestPaths:
		m.Paths = r.Strings()
	case manifestExcludes:
		m.Excludes = r.Strings()
	case manifestStart:
		d.start.sec = r.Uint()
	case manifestStartNsec:
		d.start.nsec = r.Uint()
	case manifestEnd:
		d.end.sec = r.Uint()
	case manifestEndNsec:
		d.end.nsec = r.Uint()
	case manifestOffset:
		m.Offset = int(r.Int())
	case manifestParent:
		m.Parent = r.ID()
	case manifestRoot:
		m.Root, err = d.entry(r.Bytes())
	case manifestSingle:
		m.Single = r.Bool()
	case manifestAbove:
		m.Above, err = decodeList(r.Bytes(), d.entry)
	case manifestLinkTree:
		m.LinkTree = r.ID()
	case manifestLinks:
		m.Links = r.Uint()
	case manifestFileSystems:
		m.FileSystems, err = decodeList(r.Bytes(), d.fileSystem)
	default:
		return d.outcome(r)
	}
	return err
}

// outcome takes the fields that tell how the backup went.
func (d *manifestDecoder) outcome(r *store.FieldReader) (err error) {
	m := d.m
	switch r.Tag() {
	case manifestTotalEntries:
		m.Totals.Entries = r.Uint()
	case manifestTotalBytes:
		m.Totals.Bytes = r.Uint()
	case manifestTotalLinked:
		m.Totals.Linked = r.Uint()
	case manifestErrors:
		m.Errors, err = decodeList(r.Bytes(), d.fileError)
	case manifestErrorCount:
		m.ErrorCount = r.Uint()
	case manifestFound:
		m.Found = r.String()
	case manifestTags:
		m.Tags = r.Strings()
	case manifestProgram:
		m.Program = r.String()
	case manifestUnstable:
		m.Unstable = r.Uint()
	case manifestStartedEarlier:
		m.StartedEarlier = r.Bool()
	case manifestOriginStore:
		m.OriginStore = r.String()
	case manifestOriginSnapshot:
		m.OriginSnapshot = r.ID()
	case manifestIgnoreFiles:
		m.IgnoreFiles = r.Bool()
	case manifestExcludeCaches:
		m.ExcludeCaches = r.Bool()
	case manifestOneFileSystem:
		m.OneFileSystem = r.Bool()
	case manifestExcludeLarger:
		m.ExcludeLargerThan = int64(r.Uint())
	case manifestOnlyListed:
		m.OnlyListed = r.Bool()
	default:
		r.Unknown()
	}
	return err
}

func (d *manifestDecoder) entry(data []byte) (e Entry, err error) {
	dec := entryDecoder{at: inManifest}
	err = dec.decode(data, &e)
	d.skipped = d.skipped || dec.skipped
	return e, err
}

func appendFileSystem(buf []byte, fs *FileSystem) []byte {
	f := store.AppendFields(buf)
	f.Uint(fileSystemIndex, uint64(fs.Index))
	f.String(fileSystemMount, fs.MountPath)
	f.String(fileSystemType, fs.Type)
	f.String(fileSystemUUID, fs.UUID)
	return f.Encoded()
}

func (d *manifestDecoder) fileSystem(data []byte) (fs FileSystem, err error) {
	r := store.ReadFields(data)
	for r.Next() {
		switch r.Tag() {
		case fileSystemIndex:
			fs.Index = r.Uint32()
		case fileSystemMount:
			fs.MountPath = r.String()
		case fileSystemType:
			fs.Type = r.String()
		case fileSystemUUID:
			fs.UUID = r.String()
		default:
			r.Unknown()
		}
	}
	d.skipped = d.skipped || r.Skipped()
	return fs, r.Err()
}

func appendFileError(buf []byte, e *FileError) []byte {
	f := store.AppendFields(buf)
	f.String(fileErrorPath, e.Path)
	f.String(fileErrorError, e.Error)
	return f.Encoded()
}

func (d *manifestDecoder) fileError(data []byte) (e FileError, err error) {
	r := store.ReadFields(data)
	for r.Next() {
		switch r.Tag() {
		case fileErrorPath:
			e.Path = r.String()
		case fileErrorError:
			e.Error = r.String()
		default:
			r.Unknown()
		}
	}
	d.skipped = d.skipped || r.Skipped()
	return e, r.Err()
}
