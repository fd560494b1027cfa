// The object that owns the shared precompiled header (Pch.h).
