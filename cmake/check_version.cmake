file(READ ${FILE} text)
if(NOT text MATCHES "\nversion = \"${VERSION}\"")
  message(FATAL_ERROR "got: ${VERSION} in CMakeLists.txt; expected: the version of pyproject.toml")
endif()
