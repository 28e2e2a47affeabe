// Package chunker says where to cut a byte stream into chunks: pure functions over keyed gear tables.
package chunker
